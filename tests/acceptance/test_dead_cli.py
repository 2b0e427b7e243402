"""`dtbridge dead` as people run it: a process, its output and its exit code."""

import asyncio
import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aio_pika
import aiormq
import pytest

from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import QueueType, worker_topology
from bridge.rabbitmq.declaring import ensure
from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import dtbridge as run
from tests.integration.support import clean_environment

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
NAMES = Names()


def dtbridge(url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    settings = {"DTBRIDGE_AMQP_URL": url, **settings}
    return run("dead", *arguments, settings=settings)


def said(url: str, *arguments: str, **settings: str) -> str:
    """What a command that goes well prints."""
    ended = dtbridge(url, *arguments, **settings)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def listed(url: str, *arguments: str, **settings: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in said(url, "list", "--json", *arguments, **settings).splitlines()
    ]


async def _with_channel(url: str, work: Any) -> Any:
    async with await aio_pika.connect(url) as connection:
        channel = await (await connection.channel()).get_underlay_channel()
        return await work(connection, channel)


def fill(url: str, letters: list[dict[str, Any]], queue_type: QueueType = QueueType.QUORUM) -> None:
    """Declare the bridge's topology, and publish dead letters as a worker does.

    Each is given by the headers in which it differs.
    """

    async def work(connection: Any, channel: aiormq.abc.AbstractChannel) -> None:
        plan = worker_topology(Native(NAMES), ["acme"], queue_type=queue_type)
        await ensure(connection, plan)
        for first in range(0, len(letters), 250):
            await asyncio.gather(
                *(put(channel, n, letters[n]) for n in range(first, min(first + 250, len(letters))))
            )

    async def put(
        channel: aiormq.abc.AbstractChannel, number: int, changes: dict[str, Any]
    ) -> None:
        headers: Any = {
            "ocpp-station-id": f"CP{number}",
            "dtbridge-reason": "failed",
            "dtbridge-error": "ValueError: no",
            "dtbridge-attempt": 2,
            "dtbridge-vendor": "acme",
            "dtbridge-message": "GetTariff",
            "dtbridge-failed-at": 1_700_000_000_000 + number,
            "dtbridge-exchange": NAMES.requests,
            "dtbridge-routing-key": "acme",
        } | changes
        properties = aiormq.spec.Basic.Properties(
            headers=headers, delivery_mode=2, message_id=str(number)
        )
        await channel.basic_publish(
            b'{"vendorId":"acme","messageId":"GetTariff"}',
            exchange=NAMES.dead,
            routing_key="acme",
            properties=properties,
        )

    asyncio.run(_with_channel(url, work))


def counts(url: str) -> tuple[int, int]:
    """Ready messages: dead letters, and requests of the vendor."""

    async def work(_: Any, channel: aiormq.abc.AbstractChannel) -> tuple[int, int]:
        dead, vendor = [
            int((await channel.queue_declare(queue, passive=True)).message_count or 0)
            for queue in (NAMES.dead, NAMES.vendor_queue("acme"))
        ]
        return dead, vendor

    found: tuple[int, int] = asyncio.run(_with_channel(url, work))
    return found


def replayed_text(number: int) -> str:
    """What a replay says that has tried some."""
    return f"Replayed: {number}. What fails again: dtbridge dead list --replayed\n"


NEW = {"dtbridge-failed-at": 4_000_000_000_000}  # in 2096: newer than anything


# ---- list and show ----


def test_list_prints_a_table_for_people_and_json_for_programs(amqp_url: str) -> None:
    fill(amqp_url, [{}, {"dtbridge-reason": "timed-out"}])
    table = said(amqp_url, "list")
    second, first = listed(amqp_url)
    for text in (
        first["id"],
        second["id"],
        "2023-11-14 22:13:20",
        "timed-out",
        "acme",
        "GetTariff",
        "CP1",
        "ValueError",
    ):
        assert text in table
    assert first == {
        "id": first["id"],
        "reason": "failed",
        "error": "ValueError: no",
        "vendor": "acme",
        "message": "GetTariff",
        "station": "CP0",
        "ocpp_version": "",
        "ocpp_message_id": "0",
        "attempts": 2,
        "first_try": None,
        "failed_at": "2023-11-14T22:13:20Z",
        "worker": "",
        "exchange": "datatransfer",
        "routing_key": "acme",
        "replayed": 0,
        "size": 43,
        "replayable": True,
    }
    assert counts(amqp_url) == (2, 0)


def test_every_filter_is_an_option_and_a_variable(amqp_url: str) -> None:
    fill(
        amqp_url,
        [
            {},
            {"dtbridge-vendor": "EN+ two"},
            {"dtbridge-message": ""},
            {"dtbridge-reason": "timed-out"},
            NEW,
        ],
    )
    everyone = ["CP4", "CP3", "CP2", "CP1", "CP0"]
    for name, value, expected in (
        ("vendor", "en+ TWO", ["CP1"]),
        ("message", "", ["CP2"]),
        ("station", "CP3", ["CP3"]),
        ("reason", "timed-out,expired", ["CP3"]),
        ("older-than", "7d", everyone[1:]),
        ("newer-than", "7d", ["CP4"]),
        ("since", "yesterday", ["CP4"]),
        ("until", "2023-11-15", everyone[1:]),
        ("limit", "5", everyone),
    ):
        assert [letter["station"] for letter in listed(amqp_url, f"--{name}", value)] == expected, (
            name
        )
        if value:
            variable = {f"DTBRIDGE_DEAD_{name.upper().replace('-', '_')}": value}
            assert [letter["station"] for letter in listed(amqp_url, **variable)] == expected, name


def test_variables_for_send_choose_no_dead_letters(amqp_url: str) -> None:
    fill(amqp_url, [{}, {}])
    others = {"DTBRIDGE_VENDOR": "other", "DTBRIDGE_STATION": "CP9", "DTBRIDGE_MESSAGE": "Other"}
    assert len(listed(amqp_url, **others)) == 2
    assert said(amqp_url, "purge", "--dry-run", **others) == "Would be purged: 2.\n"


def test_list_says_when_it_does_not_show_all(amqp_url: str) -> None:
    fill(amqp_url, [{}, {}, {}])
    ended = dtbridge(amqp_url, "list", "--limit", "2", "--json")
    assert [json.loads(line)["station"] for line in ended.stdout.splitlines()] == ["CP2", "CP1"]
    assert ended.stderr == "dtbridge: these are the newest 2 of 3 (--limit shows more)\n"
    ended = dtbridge(amqp_url, "list", "--limit", "3", "--station", "nobody")
    assert (ended.stdout, ended.stderr) == ("There are no such dead letters.\n", "")


def test_a_vendor_without_dead_letters_is_told_with_those_that_have_some(amqp_url: str) -> None:
    fill(amqp_url, [{}, {}, {"dtbridge-vendor": "EN+\x1b"}])
    told = (
        "dtbridge: there are no dead letters of the vendor 'amce'; "
        "there are some of acme (2), EN+\N{REPLACEMENT CHARACTER} (1)\n"
    )
    for command in (
        ("list",),
        ("list", "--json"),
        ("replay",),
        ("replay", "--yes"),
        ("replay", "--dry-run"),
        ("purge", "--yes"),
        ("purge", "--dry-run"),
    ):
        ended = dtbridge(amqp_url, *command, "--vendor", "amce")
        assert (ended.returncode, ended.stderr) == (0, told), command
    assert said(amqp_url, "list", "--vendor", "ACME", "--station", "nobody")
    assert counts(amqp_url) == (3, 0)


def test_what_is_replayed_is_told_by_reason_and_time_and_what_may_have_its_effect_twice(
    amqp_url: str,
) -> None:
    fill(amqp_url, [{}, {}, {"dtbridge-reason": "timed-out"}, {"dtbridge-reason": "marker"}])
    span = ("--since", "2023-11-14+01:00", "--until", "2023-11-15T00:00")
    assert said(amqp_url, "replay", "--dry-run", *span).startswith(
        "Would be replayed: 3 (2 failed, 1 timed-out), given up from 2023-11-13 23:00:00 UTC on "
        "and before 2023-11-15 00:00:00 UTC.\n"
        "  3 to exchange datatransfer, key acme\n"
        "1 of them timed out: a handler in a thread"
    )
    assert "no requests (dtbridge dead purge --reason marker" in said(
        amqp_url, "replay", "--dry-run"
    )
    ended = dtbridge(amqp_url, "replay", *span)
    assert (ended.returncode, ended.stdout) == (0, replayed_text(3))
    assert "1 of them had timed out" in ended.stderr
    assert "1 that are no requests stay" in ended.stderr
    assert counts(amqp_url) == (1, 3)
    ended = dtbridge(amqp_url, "list", "--since", "today", "--until", "yesterday")
    assert ended.returncode == 2
    assert "(since, newer than) and before" in ended.stderr


def test_no_text_of_a_dead_letter_reaches_the_terminal_as_a_command(amqp_url: str) -> None:
    fill(
        amqp_url, [{"dtbridge-error": "\x1b]0;owned\x07[bold]\u202e", "ocpp-station-id": "\x1b[2J"}]
    )
    for output in (said(amqp_url, "list"), said(amqp_url, "show", listed(amqp_url)[0]["id"])):
        assert not {"\x1b", "\x07", "\u202e"} & set(output)
        assert "[bold]" in output


def test_show_tells_everything_of_one(amqp_url: str) -> None:
    fill(amqp_url, [{}, {"traceparent": "00-a-b-01"}])
    letter = listed(amqp_url)[0]
    text = said(amqp_url, "show", letter["id"])
    for line in (
        "station: CP1",
        "  traceparent: 00-a-b-01",
        '{"vendorId":"acme","messageId":"GetTariff"}',
    ):
        assert line in text
    exact = json.loads(said(amqp_url, "show", letter["id"][:6].upper(), "--json"))
    assert exact["body"] == '{"vendorId":"acme","messageId":"GetTariff"}'
    assert exact["headers"]["dtbridge-attempt"] == 2
    assert exact["properties"] == {"delivery_mode": 2, "message_id": "1"}
    assert {name: exact[name] for name in letter} == letter
    assert counts(amqp_url) == (2, 0)


def test_show_wants_the_beginning_of_exactly_one_id(amqp_url: str) -> None:
    fill(amqp_url, [{} for _ in range(17)])  # of 17, two begin alike
    starts = [letter["id"][0] for letter in listed(amqp_url)]
    start = next(start for start in starts if starts.count(start) > 1)
    ended = dtbridge(amqp_url, "show", start)
    assert ended.returncode == 2
    assert f"{start} is the beginning of {starts.count(start)} dead letters" in ended.stderr
    ended = dtbridge(amqp_url, "show", "0" * 12)
    assert (ended.returncode, ended.stderr) == (
        1,
        "dtbridge: there is no dead letter 000000000000\n",
    )


# ---- replay ----


def test_replay_counts_in_a_dry_run_and_then_publishes(amqp_url: str) -> None:
    fill(amqp_url, [{}, {"dtbridge-reason": "timed-out"}, {}])
    assert said(amqp_url, "replay", "--reason", "failed", "--dry-run") == (
        "Would be replayed: 2 (2 failed).\n  2 to exchange datatransfer, key acme\n"
    )
    assert json.loads(said(amqp_url, "replay", "--json", "--dry-run", "--limit", "1")) == {
        "dry_run": True,
        "replayed": 1,
        "destinations": {"exchange datatransfer, key acme": 1},
        "elsewhere": {},
        "impossible": 0,
        "expired": 0,
        "markers": 0,
        "reasons": {"failed": 1},
        "since": None,
        "until": None,
    }
    assert counts(amqp_url) == (3, 0)
    assert said(amqp_url, "replay", "--reason", "failed") == replayed_text(2)
    assert counts(amqp_url) == (1, 2)
    ended = dtbridge(amqp_url, "replay", "--json")
    assert json.loads(ended.stdout) == {
        "replayed": 1,
        "unroutable": 0,
        "refused": 0,
        "impossible": 0,
        "elsewhere": 0,
        "expired": 0,
        "markers": 0,
        "timed_out": 1,
    }


def test_what_says_that_it_came_from_elsewhere_is_shown_and_stays(amqp_url: str) -> None:
    forged = {"dtbridge-exchange": "", "dtbridge-routing-key": "billing.\x1b[2Jcommands"}
    fill(amqp_url, [forged, {}, {"dtbridge-exchange": "tenants"}, {"dtbridge-exchange": 1}])
    assert said(amqp_url, "replay", "--dry-run") == (
        "Would be replayed: 1 (1 failed).\n"
        "  1 to exchange datatransfer, key acme\n"
        "Would stay, because they are not from the bridge's own exchange or queues "
        "(--exchange allows an exchange): 2.\n"
        "  1 to exchange tenants, key acme\n"
        "  1 to queue billing.\N{REPLACEMENT CHARACTER}[2Jcommands\n"
        "Would stay, because they do not say where they came from: 1.\n"
    )
    assert "queue billing." in said(amqp_url, "list")
    ended = dtbridge(amqp_url, "replay")
    assert (ended.returncode, ended.stdout) == (1, replayed_text(1))
    assert "2 not from the bridge's own exchange or queues" in ended.stderr
    assert "1 without a place to go back to" in ended.stderr
    assert counts(amqp_url) == (3, 1)
    assert "Would be replayed: 1 (1 failed)." in said(
        amqp_url, "replay", "--exchange", "tenants", "--dry-run"
    )


def test_a_replay_that_leaves_some_says_why_and_fails(amqp_url: str) -> None:
    fill(amqp_url, [{}, {"dtbridge-exchange": "gone"}, {"dtbridge-exchange": 7}])
    ended = dtbridge(amqp_url, "replay", "--exchange", "gone")
    assert (ended.returncode, ended.stdout) == (1, replayed_text(1))
    assert ended.stderr == (
        "dtbridge: 2 could not be replayed and stay: 1 no queue takes them, "
        "1 without a place to go back to\n"
    )
    assert counts(amqp_url) == (2, 1)


@pytest.mark.parametrize("queue_type", list(QueueType))
def test_a_replay_killed_at_any_moment_and_run_again_loses_nothing(
    amqp_url: str, queue_type: QueueType
) -> None:
    count = 2000
    fill(amqp_url, [{} for _ in range(count)], queue_type)
    command = [sys.executable, "-m", "bridge", "dead", "replay", "--yes"]
    environment = clean_environment() | {"DTBRIDGE_AMQP_URL": amqp_url}

    async def kill_when_it_has_begun(_: Any, channel: aiormq.abc.AbstractChannel) -> None:
        replaying = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(PATIENCE):
                while not (
                    await channel.queue_declare(NAMES.vendor_queue("acme"), passive=True)
                ).message_count:
                    assert replaying.returncode is None
        finally:
            replaying.send_signal(signal.SIGKILL)
            assert await replaying.wait() == -signal.SIGKILL, (
                "it was done before it could be killed"
            )

    async def message_ids(_: Any, channel: aiormq.abc.AbstractChannel) -> set[str]:
        queue = NAMES.vendor_queue("acme")
        inbox: asyncio.Queue[aiormq.abc.DeliveredMessage] = asyncio.Queue()
        total = (await channel.queue_declare(queue, passive=True)).message_count or 0
        await channel.basic_consume(queue, inbox.put, no_ack=True)
        async with asyncio.timeout(PATIENCE):
            return {str((await inbox.get()).header.properties.message_id) for _ in range(total)}

    asyncio.run(_with_channel(amqp_url, kill_when_it_has_begun))
    asyncio.run(asyncio.wait_for(_until_given_back(amqp_url, count), PATIENCE))
    said(amqp_url, "replay", "--yes")
    assert counts(amqp_url)[0] == 0
    assert asyncio.run(_with_channel(amqp_url, message_ids)) == {
        str(number) for number in range(count)
    }


async def _until_given_back(url: str, count: int) -> None:
    """Until the broker has noticed that the process is gone."""

    async def work(_: Any, channel: aiormq.abc.AbstractChannel) -> None:
        queues = NAMES.dead, NAMES.vendor_queue("acme")
        while True:
            found = [
                (await channel.queue_declare(queue, passive=True)).message_count or 0
                for queue in queues
            ]
            if sum(found) >= count:
                return
            await asyncio.sleep(0.02)

    await _with_channel(url, work)


# ---- by id ----


def test_replay_and_purge_take_ids_or_how_they_begin(amqp_url: str) -> None:
    fill(amqp_url, [{} for _ in range(4)])
    ids = {letter["station"]: letter["id"] for letter in listed(amqp_url)}
    assert said(amqp_url, "replay", ids["CP1"][:8], ids["CP2"]) == replayed_text(2)
    assert said(amqp_url, "purge", ids["CP0"].upper()) == "Purged: 1.\n"
    assert [letter["station"] for letter in listed(amqp_url)] == ["CP3"]
    assert counts(amqp_url) == (1, 2)


def test_nothing_is_done_if_one_of_several_ids_names_none_or_two(amqp_url: str) -> None:
    fill(amqp_url, [{} for _ in range(17)])
    ids = [letter["id"] for letter in listed(amqp_url)]
    starts = [letter_id[0] for letter_id in ids]
    start = next(start for start in starts if starts.count(start) > 1)
    good = next(letter_id for letter_id in ids if letter_id[0] != start)
    for command in ("replay", "purge"):
        ended = dtbridge(amqp_url, command, good, start)
        assert ended.returncode == 2
        assert f"{start} is the beginning of {starts.count(start)} dead letters: " in ended.stderr
        ended = dtbridge(amqp_url, command, good, "0" * 12)
        assert ended.returncode == 1
        assert ended.stderr == "dtbridge: there is no dead letter 000000000000\n"
    assert counts(amqp_url) == (17, 0)


# ---- more than a few, expired ones, a rate ----


def test_a_replay_of_many_asks_nobody_who_is_not_there(amqp_url: str) -> None:
    fill(amqp_url, [{} for _ in range(11)])
    ended = dtbridge(amqp_url, "replay")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "dtbridge: 11 dead letters would be replayed and there is nobody to ask: "
        "say --yes, or --dry-run to see where they go\n"
    )
    assert counts(amqp_url) == (11, 0)
    assert said(amqp_url, "replay", "--limit", "1") == replayed_text(1)
    assert said(amqp_url, "replay") == replayed_text(10)


@pytest.mark.parametrize(("answer", "left"), [("n", 11), ("y", 0)])
def test_on_a_terminal_a_replay_of_many_says_where_they_go_and_asks(
    amqp_url: str, answer: str, left: int
) -> None:
    fill(amqp_url, [{} for _ in range(11)])
    output, code = on_a_terminal(amqp_url, "replay", answer=answer)
    assert "11 to exchange datatransfer, key acme" in output
    assert "Replay 11 dead letters?" in output
    assert code == (1 if left else 0)
    assert counts(amqp_url) == (left, 11 - left)


def test_expired_ones_are_listed_and_replayed_only_when_asked_for(amqp_url: str) -> None:
    expired = {"dtbridge-reason": "expired"}
    fill(amqp_url, [expired, {}, expired, expired, expired])
    assert len(listed(amqp_url)) == 5
    assert "(--include-expired): 4." in said(amqp_url, "replay", "--dry-run")
    ended = dtbridge(amqp_url, "replay")
    assert (ended.returncode, ended.stdout) == (0, replayed_text(1))
    assert ended.stderr == (
        "dtbridge: 4 that expired stay, because nobody waits for them (--include-expired)\n"
    )
    assert dtbridge(amqp_url, "replay").stdout == "Replayed: 0.\n"
    assert said(amqp_url, "replay", listed(amqp_url)[0]["id"]) == replayed_text(1)
    assert said(amqp_url, "replay", "--reason", "expired", "--limit", "1") == replayed_text(1)
    assert said(amqp_url, "replay", "--include-expired") == replayed_text(2)
    assert counts(amqp_url) == (0, 5)


def test_a_rate_is_kept(amqp_url: str) -> None:
    fill(amqp_url, [{} for _ in range(9)])
    began = time.monotonic()
    assert said(amqp_url, "replay", "--rate", "4") == replayed_text(9)
    assert time.monotonic() - began >= 8 / 4


def test_an_interrupted_replay_says_how_far_it_came(amqp_url: str) -> None:
    fill(amqp_url, [{} for _ in range(10)])
    command = [sys.executable, "-m", "bridge", "dead", "replay", "--rate", "2"]
    environment = clean_environment() | {"DTBRIDGE_AMQP_URL": amqp_url}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as replaying:
        while not counts(amqp_url)[1]:
            assert replaying.poll() is None
        replaying.send_signal(signal.SIGINT)
        _, told = replaying.communicate(timeout=PATIENCE)
    assert replaying.returncode == 130
    assert re.fullmatch(
        r"dtbridge: interrupted after \d replayed; everything else is still there\n", told
    )


def test_what_came_back_after_a_replay_is_found(amqp_url: str) -> None:
    fill(amqp_url, [{}, {"dtbridge-replayed": 2}])
    assert [letter["station"] for letter in listed(amqp_url, "--replayed")] == ["CP1"]


# ---- a table that fits ----


def test_a_table_fits_a_terminal_of_80_columns_and_shows_more_on_a_wider_one(
    amqp_url: str,
) -> None:
    long = {
        "dtbridge-error": "KeyError: " + "x" * 500,
        "dtbridge-vendor": "org.openchargealliance.iso15118pnc",
        "ocpp-station-id": "DE*ABC*E1234567*0001",
        "dtbridge-reason": "retries-exhausted",
    }
    fill(amqp_url, [{}, long])
    narrow, _ = on_a_terminal(amqp_url, "list", columns=80)
    shown = _plain(narrow).splitlines()
    lines = [line for line in shown if "GetT" in line]
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in shown)
    assert "retries-exhausted" in lines[0]
    assert shown[shown.index(lines[0]) + 1].startswith("          KeyError: ")
    assert "goes back to" not in narrow
    wide, _ = on_a_terminal(amqp_url, "list", columns=160)
    assert "goes back to" in wide


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


# ---- purge ----


def test_purge_asks_nobody_who_is_not_there(amqp_url: str) -> None:
    fill(amqp_url, [{}, {"dtbridge-reason": "timed-out"}])
    ended = dtbridge(amqp_url, "purge")
    assert ended.returncode == 2
    assert "say --yes" in ended.stderr
    assert said(amqp_url, "purge", "--dry-run") == "Would be purged: 2.\n"
    assert counts(amqp_url) == (2, 0)
    assert said(amqp_url, "purge", "--yes", "--reason", "timed-out") == "Purged: 1.\n"
    assert json.loads(said(amqp_url, "purge", "--json", DTBRIDGE_DEAD_YES="1")) == {"purged": 1}
    assert counts(amqp_url) == (0, 0)


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 0)])
def test_on_a_terminal_purge_says_how_many_and_asks(amqp_url: str, answer: str, left: int) -> None:
    fill(amqp_url, [{}, {}, {}])
    output, code = on_a_terminal(amqp_url, "purge", answer=answer)
    assert "Delete 3 dead letters for ever?" in output
    assert "dead letters read" in output  # the progress bar
    assert code == (1 if left else 0)
    assert counts(amqp_url) == (left, 0)


def on_a_terminal(
    url: str, *arguments: str, answer: str = "", columns: int = 100
) -> tuple[str, int]:
    """A command's output and exit code, its question answered."""
    terminal, other_end = pty.openpty()
    environment = clean_environment() | {
        "DTBRIDGE_AMQP_URL": url,
        "TERM": "xterm",
        "COLUMNS": str(columns),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "dead", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    output = b""
    try:
        while chunk := _read(terminal):
            if b"?" in chunk:
                os.write(terminal, f"{answer}\n".encode())
            output += chunk
        return output.decode(), process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError as error:  # how Linux says that the other end is closed
        if error.errno != errno.EIO:
            raise
        return b""


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("list", "--older-than", "soon"), 2, "'soon' is not an age"),
        (("replay", "--reason", "because"), 2, "'because' is no reason: expected failed"),
        (("list", "--since", "soon"), 2, "'soon' is not a time"),
        (("replay", "--rate", "0"), 2, "Invalid value for '--rate'"),
        (("replay", "nonsense"), 2, "'nonsense' is not an id"),
        (("purge", "--limit", "0"), 2, "Invalid value for '--limit'"),
        (("show", "nonsense"), 2, "'nonsense' is not an id"),
        (("list", "--amqp-url", "http://host"), 2, "is not a broker URL"),
        (("list", "--prefix", "other"), 1, "queue 'other.dead' cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(
    amqp_url: str, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ended = dtbridge(amqp_url, *arguments)
    assert ended.returncode == code
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    [port] = free_ports(1)
    ended = dtbridge(f"amqp://guest:guest@127.0.0.1:{port}/", "list")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"dtbridge: no broker at amqp://guest:***@127.0.0.1:{port}/: ")
    assert ended.stderr.count("\n") == 1
