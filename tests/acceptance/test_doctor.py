"""`dtbridge doctor` as people run it: a process, its output and its exit code."""

import json
from pathlib import Path

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import dtbridge, sentence
from tests.acceptance.test_dead_cli import fill

QUIET = {"DTBRIDGE_MANAGEMENT": "http://127.0.0.1:1"}
"""The tests' broker has no management API."""


def test_findings_are_told_with_what_to_do(amqp_url: str) -> None:
    fill(amqp_url, [{}, {}])
    done = dtbridge("doctor", "--amqp-url", amqp_url, settings=QUIET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 dead letters\n" in done.stdout
    assert "-> look at them: dtbridge dead list" in done.stdout
    assert "\n0 failures, " in done.stdout
    assert all(len(line) <= 120 for line in done.stdout.splitlines())


def test_what_breaks_is_an_exit_code_and_all_of_it_is_json(amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no database')\n")
    done = dtbridge(
        "doctor", "broken:router", "--json", "--amqp-url", amqp_url, "--topology", "verify",
        settings=QUIET, folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["healthy"] is False
    failed = {each["check"]: each for each in found["findings"] if each["level"] == "fail"}
    assert "no database" in failed["routers"]["sentence"]
    assert failed["topology"]["sentence"].startswith("not there: ")
    assert failed["topology"]["advice"]
    assert found["counts"]["fail"] == len(failed)


def test_a_broker_that_is_not_there_is_a_finding_without_its_password() -> None:
    [port] = free_ports(1)
    url = f"amqp://me:secret@127.0.0.1:{port}/"
    done = dtbridge("doctor", "--amqp-url", url, settings=QUIET)
    assert done.returncode == 1
    assert f"no broker at amqp://me:***@127.0.0.1:{port}/: " in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_a_store_that_is_not_there_is_a_finding_without_its_password(amqp_url: str) -> None:
    [port] = free_ports(1)
    store = f"redis://me:secret@127.0.0.1:{port}/0"
    done = dtbridge("doctor", "--amqp-url", amqp_url, "--idempotency", store, settings=QUIET)
    assert done.returncode == 1
    assert "the Redis of --idempotency cannot be used: " in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_a_mistake_is_one_sentence() -> None:
    for arguments, told in (
        ("doctor --amqp-url http://a", "is not a broker URL"),
        ("doctor --idempotency sqlite", "--idempotency is memory, none or redis"),
        ("doctor amqp://u:Qx7@b/", "a URL stands where MODULE:NAME is expected"),
        ("doctor --answer-within 5", "for the dialects web-ocpp and citrineos"),
    ):
        done = dtbridge(*arguments.split())
        assert told in sentence(done)
        assert done.returncode == 2
        assert "Qx7" not in done.stderr
