"""``python -m bridge`` is ``dtbridge``."""

from bridge.cli.start import main

main()
