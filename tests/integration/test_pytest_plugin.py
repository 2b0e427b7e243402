"""The fixture `private_rabbitmq`, in runs of pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import socket
from urllib.parse import urlsplit

def test_it_runs(private_rabbitmq):
    assert private_rabbitmq.running
    parts = urlsplit(private_rabbitmq.url)
    socket.create_connection((parts.hostname, parts.port)).close()

def test_it_is_the_same_for_all(private_rabbitmq):
    assert private_rabbitmq.add_vhost("mine").endswith("/mine")
"""


def run(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_it.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "bridge.testing.plugin", str(folder)],
        cwd=folder,
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def test_a_private_rabbitmq_runs_for_the_whole_run(tmp_path: Path) -> None:
    ended = run(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout


def test_without_a_server_the_tests_say_why(tmp_path: Path) -> None:
    ended = run(tmp_path, DTBRIDGE_RABBITMQ_SERVER="/nowhere")
    assert ended.returncode == 1
    assert "DTBRIDGE_RABBITMQ_SERVER names no rabbitmq-server script: /nowhere" in ended.stdout
    assert "Traceback" not in ended.stdout
