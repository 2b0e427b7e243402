"""What a fleet of workers does at the moment: from their metrics, and the broker's own counts.

:mod:`bridge.top.scraping` gets the metrics, :mod:`bridge.top.samples` compares two readings of
them, and :mod:`bridge.top.view` makes rows of what comes out. ``bridge.cli.top_screen`` shows them.
"""
