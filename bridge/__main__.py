"""``python -m bridge`` is ``dtbridge``."""

from bridge.cli.main import main

main()
