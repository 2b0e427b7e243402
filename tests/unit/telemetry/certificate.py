"""A certificate for a test."""

import subprocess
from pathlib import Path


def make(folder: Path, name: str, days: int) -> Path:
    """A certificate that signs itself."""
    path = folder / name
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", "/dev/null", "-out", path, "-days", str(days), "-subj", "/CN=x"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return path
