"""What may be wrong with a worker's surroundings, and what to do about it.

:mod:`bridge.doctor.facts` says what is known, as values; each check is a function from those to
findings, and looks at nothing itself. A new check goes into the list of its module, ``CHECKS``.
"""
