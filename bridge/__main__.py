"""``python -m bridge`` is ``dtbridge``."""

from bridge.cli import main

main()
