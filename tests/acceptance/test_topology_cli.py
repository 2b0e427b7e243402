"""`dtbridge topology` as people run it: a process, its output and its exit code."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from bridge.testing.rabbitmq import PrivateBroker
from tests.acceptance.command import dtbridge, sentence
from tests.integration.support import ROOT, WorkerProcess

TARGET = "tests.integration.echo_vendor:router"
NOTHING, FAILED, USAGE, DIFFERENT = 0, 1, 2, 3


class Place:
    """A virtual host of the node with the management API."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.broker = broker
        self.vhost = f"test-{secrets.token_hex(6)}"
        self.settings = {
            "DTBRIDGE_AMQP_URL": broker.add_vhost(self.vhost),
            "DTBRIDGE_MANAGEMENT": broker.management_url,
        }

    @property
    def url(self) -> str:
        return self.settings["DTBRIDGE_AMQP_URL"]

    def run(
        self, command: str, *options: str, target: str = TARGET, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return dtbridge(
            "topology", command, target, *options, settings=self.settings | settings, folder=ROOT
        )

    def ended(
        self, code: int, command: str, *options: str, target: str = TARGET, **settings: str
    ) -> str:
        done = self.run(command, *options, target=target, **settings)
        assert (done.returncode, done.stderr) == (code, ""), done.stdout
        return done.stdout


@pytest.fixture
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)


def changed(url: str, *steps: Any) -> None:
    """Change what is declared: each step is a method of a channel and its arguments."""

    async def work() -> None:
        async with await aio_pika.connect(url) as connection:
            channel = await (await connection.channel()).get_underlay_channel()
            for method, *arguments in steps:
                keywords = arguments.pop() if isinstance(arguments[-1], dict) else {}
                await getattr(channel, method)(*arguments, **keywords)

    asyncio.run(work())


def test_plan_apply_and_verify_of_an_empty_broker(place: Place) -> None:
    planned = place.ended(DIFFERENT, "plan")
    assert "+ queue datatransfer.echo\n" in planned
    assert "+ binding datatransfer -[echo]-> datatransfer.echo\n" in planned
    assert "0 as they must be." in planned
    assert "queue datatransfer.echo: missing. `dtbridge topology apply`" in place.ended(
        DIFFERENT, "verify"
    )
    assert place.ended(NOTHING, "apply", "--yes").endswith("Created: 43. Deleted: 0.\n")
    assert place.ended(NOTHING, "plan") == "Nothing differs; 43 as they must be.\n"
    assert place.ended(NOTHING, "verify") == "Nothing differs; 43 as they must be.\n"
    assert place.ended(NOTHING, "apply") == "Created: 0. Deleted: 0.\n"
    with WorkerProcess(TARGET, place.url):
        pass


def test_the_exchange_of_events_is_made_for_workers_that_declare_nothing(place: Place) -> None:
    place.ended(NOTHING, "apply", "--yes")
    assert place.ended(NOTHING, "plan") == "Nothing differs; 43 as they must be.\n"
    planned = place.ended(DIFFERENT, "plan", "--events")
    assert planned == ("+ exchange datatransfer.events\n1 missing; 43 as they must be.\n")
    assert "exchange datatransfer.events: missing." in place.ended(DIFFERENT, "verify", "--events")
    tap = dtbridge("tap", "--amqp-url", place.url)
    assert "`dtbridge topology apply … --events` does" in sentence(tap)
    with WorkerProcess(TARGET, place.url, topology="verify", events="all") as worker:
        assert "`dtbridge topology apply`" in worker.until("events are off")["hint"]
    assert place.ended(NOTHING, "apply", "--yes", "--events").endswith("Created: 1. Deleted: 0.\n")
    assert place.ended(NOTHING, "verify", "--events") == "Nothing differs; 44 as they must be.\n"
    assert place.ended(NOTHING, "plan") == "Nothing differs; 43 as they must be.\n"
    with WorkerProcess(TARGET, place.url, topology="verify", events="all") as worker:
        assert "events are off" not in {line.get("event") for line in worker.log}
    for options, there in ((("--events",), True), ((), False)):
        made = json.loads(place.ended(NOTHING, "export", *options))
        assert ("datatransfer.events" in {each["name"] for each in made["exchanges"]}) is there


@pytest.mark.parametrize(
    ("dialect", "queue_type"), [("web-ocpp", "classic"), ("citrineos", "quorum")]
)
def test_what_apply_has_made_does_not_differ_in_any_dialect(
    place: Place, dialect: str, queue_type: str
) -> None:
    options = ("--dialect", dialect, "--queue-type", queue_type)
    place.ended(NOTHING, "apply", "--yes", *options)
    assert "Nothing differs" in place.ended(NOTHING, "plan", *options)
    place.ended(NOTHING, "apply", "--yes", "--queue-type", queue_type)
    assert "Nothing differs" in place.ended(NOTHING, "plan", *options)


def test_every_difference_is_named_at_once(place: Place) -> None:
    place.ended(NOTHING, "apply", "--yes")
    changed(
        place.url,
        ("queue_delete", "datatransfer.echo"),
        ("queue_declare", "datatransfer.echo", {"durable": True, "arguments": {"x-max-length": 5}}),
        ("queue_unbind", "datatransfer.dead", "datatransfer.dead"),
        ("queue_delete", "datatransfer.retry.100"),
        ("exchange_delete", "datatransfer.stations"),
        ("exchange_declare", "datatransfer.stations", {"exchange_type": "topic"}),
    )
    told = place.ended(DIFFERENT, "verify").splitlines()
    creates = "missing. `dtbridge topology apply` creates what is missing."
    assert told[0].startswith("exchange datatransfer.stations: type is topic, not direct; durable")
    assert told[1:3] == [
        f"binding datatransfer.dead -> datatransfer.dead: {creates}",
        f"queue datatransfer.retry.100: {creates}",
    ]
    assert any(
        line.startswith("queue datatransfer.echo: ") and "x-max-length is 5, not none" in line
        for line in told
    )
    found = json.loads(place.ended(DIFFERENT, "plan", "--json"))
    assert found["counts"]["different"] == 2
    assert found["counts"]["missing"] == 4
    assert place.ended(DIFFERENT, "apply", "--yes").endswith(
        "Created: 4. Deleted: 0.\n2 differ, which this command does not change: "
        "`dtbridge topology plan` shows what to do.\n"
    )
    found = json.loads(place.ended(DIFFERENT, "plan", "--json"))
    assert (found["counts"]["missing"], found["counts"]["different"]) == (0, 2)


def test_a_worker_names_every_queue_that_differs_and_what_to_do(place: Place) -> None:
    place.ended(NOTHING, "apply", "--yes", "--queue-type", "classic")
    done = dtbridge("run", TARGET, settings=place.settings, folder=ROOT)
    told = sentence(done)
    assert done.returncode == FAILED
    for name in ("dead", "retry.100", "retry.300000", "unknown-vendor", "echo"):
        assert f"'datatransfer.{name}'" in told
    assert "`dtbridge topology migrate`" in told


def test_the_arguments_of_all_queues_are_migrated_beside_a_worker(place: Place) -> None:
    place.ended(NOTHING, "apply", "--yes", "--queue-type", "classic")
    with WorkerProcess(TARGET, place.url, queue_type="classic") as worker:
        told = place.ended(NOTHING, "migrate", "--yes")
        assert "datatransfer.echo: switched back\n" in told
        assert "datatransfer.echo: done\n" in told
        assert "Migrated: 13. Requests waited" in told
        asked = dtbridge(
            "send",
            *("--station", "CP", "--vendor", "echo", "--data", "[1]"),
            settings=place.settings,
        )
        assert json.loads(asked.stdout)["data"] == ["CP", 1]
        assert any(line.get("event") == "queues are taken as they are" for line in worker.log)
    assert "Nothing differs" in place.ended(NOTHING, "plan")
    with WorkerProcess(TARGET, place.url):
        pass


def test_queues_lose_nothing_unless_that_is_asked_for(place: Place) -> None:
    place.ended(NOTHING, "apply", "--yes")
    told = place.ended(DIFFERENT, "verify", "--queue-type", "classic")
    assert "It is quorum already: start with queue type quorum" in told
    for options in (("--yes",), ()):
        done = place.run("migrate", "--queue-type", "classic", *options)
        assert done.returncode == USAGE
        assert "the copies on other nodes, the delivery limit" in done.stderr
        assert "start workers with --queue-type quorum" in done.stderr
        assert "which is done with --weaken only" in done.stderr
    assert "Nothing differs" in place.ended(NOTHING, "plan")
    told = place.ended(NOTHING, "migrate", "--queue-type", "classic", "--weaken", "--yes")
    assert "Migrated: 13." in told
    assert told.endswith("From now on, start workers with --queue-type classic.\n")


def test_a_vendor_that_nobody_handles_any_more_is_retired(place: Place) -> None:
    place.ended(NOTHING, "apply", "--yes", target="tests.integration.load_vendors:routers")
    planned = place.ended(DIFFERENT, "plan")
    assert "No router given handles it" in planned
    retired = [line for line in planned.splitlines() if line.startswith("- queue ")]
    assert retired
    for given in (retired[0].removeprefix("- queue "), retired[1][len("- queue datatransfer.") :]):
        assert "Deleted: 1." in place.ended(NOTHING, "apply", "--prune", given, "--yes")
    assert f"Deleted: {len(retired) - 2}." in place.ended(
        NOTHING, "apply", "--prune", "all", "--yes"
    )
    assert "Nothing differs" in place.ended(NOTHING, "plan")


def test_definitions_can_be_imported(place: Place, tmp_path: Path) -> None:
    file = place.broker.folder / "definitions.json"
    file.write_text(place.ended(NOTHING, "export"))
    place.broker.ctl("import_definitions", str(file))
    assert "Nothing differs" in place.ended(NOTHING, "plan")
    with WorkerProcess(TARGET, place.url):
        pass


def test_without_the_management_api_it_says_what_amqp_tells(amqp_url: str) -> None:
    settings = {"DTBRIDGE_AMQP_URL": amqp_url}

    def run(command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return dtbridge("topology", command, TARGET, *options, settings=settings, folder=ROOT)

    planned = run("plan")
    assert planned.returncode == DIFFERENT
    assert "+ queue datatransfer.echo\n" in planned.stdout
    assert "Without the management API, bindings, retired queues" in planned.stdout
    assert run("apply", "--yes", "--queue-type", "classic").returncode == NOTHING
    assert run("verify", "--queue-type", "classic").returncode == NOTHING
    planned = run("plan")
    assert planned.returncode == DIFFERENT
    assert "classic -> quorum" in planned.stdout
    migrated = run("migrate", "--yes")
    assert migrated.returncode == FAILED
    assert "a migration needs the management API" in migrated.stderr


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("export", "--user", "gateway"), USAGE, "expected ROLE=NAME, of worker, "),
        (("export", "--user", "king=me"), USAGE, "expected ROLE=NAME, of worker, "),
        (
            ("export", "--user", "worker=me", "--dialect", "web-ocpp"),
            USAGE,
            "for the native dialect",
        ),
        (("plan", "--management", "m:15672"), USAGE, "not a URL of the management API"),
        (("plan", "--management", "http://127.0.0.1:1"), FAILED, "no management API at"),
        (("apply",), USAGE, "nobody to ask"),
        (("apply", "--prune", "echo", "--yes"), USAGE, "is handled by a router"),
        (("apply", "--prune", "none", "--yes"), FAILED, "no retired queue of the vendor 'none'"),
        (
            ("migrate", "--vendor", "ecco", "--vendor", "echo", "--yes"),
            USAGE,
            "no router given is for the vendor 'ecco': they are for echo",
        ),
        (
            ("migrate", "--vendor", "echo", "--dialect", "citrineos", "--yes"),
            USAGE,
            "--vendor is for the native dialect",
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    place: Place, options: tuple[str, ...], code: int, told: str
) -> None:
    done = place.run(*options)
    assert done.returncode == code
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_vendor_gets_partitions_and_loses_them_beside_its_workers(
    place: Place, tmp_path: Path
) -> None:
    one, two = "tests.integration.ordered_vendor:one", "tests.integration.ordered_vendor:two"
    with WorkerProcess(one, place.url):
        planned = place.ended(DIFFERENT, "plan", target=two)
        assert "x-dead-letter-routing-key  v:1-ordered -> v:2-ordered" in planned
        assert "~ binding datatransfer -[v]-> datatransfer.v:2-ordered\n" in planned
        applied = place.ended(DIFFERENT, "apply", "--yes", target=two)
        assert "Created:" in applied  # queues, and not the binding
        assert "~ binding" in place.ended(DIFFERENT, "plan", target=two)
        done = place.run("migrate", "--yes", target=two)
        assert "datatransfer.v: switched\n" in done.stdout
        assert "Migrated: 1.\nNew partitions were held for " in done.stdout
        assert done.stdout.endswith("yet: start workers with the new number.\n")
        assert "1 old partition is empty, and workers" in done.stderr
        assert done.returncode == DIFFERENT
    with WorkerProcess(two, place.url):
        asked = dtbridge(
            "send",
            *("--station", "CP", "--vendor", "v", "--data", "7"),
            settings=place.settings,
        )
        assert json.loads(asked.stdout)["data"] == 7
    told = place.ended(NOTHING, "migrate", "--yes", target=two)
    assert "datatransfer.v: done\nMigrated: 1.\n" in told
    assert "Nothing differs" in place.ended(NOTHING, "plan", target=two)
    pruned = place.ended(NOTHING, "apply", "--yes", "--prune", "v", target=TARGET)
    assert "Deleted: 3." in pruned
    left = place.ended(NOTHING, "plan", target=TARGET)
    assert "datatransfer.v" not in left
