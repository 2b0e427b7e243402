"""A mistake on the command line is told in one sentence, with an exit code other than 0."""

import socket
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import SCRIPT, dtbridge, sentence

GOOD = """\
from bridge import Call, Router
router = Router('v')
@router.default
async def a(call: Call) -> None: ...
"""
MODULES = {
    "good.py": GOOD,
    "twin.py": GOOD + "other = Router('V')\nboth = [router, other]\n",
    "spread.py": GOOD.replace("('v')", "('v', partitions=2)"),
    "raising.py": "raise RuntimeError('the database is away')\n",
    "exiting.py": GOOD + "import sys\nsys.exit(0)\n",
    "silent.py": GOOD + "raise SystemExit\n",
    "lazy.py": "def __getattr__(name): raise SystemExit(0)\n",
    "odd.py": "class Odd(BaseException): ...\nraise Odd('two\\nlines')\n",
    "broken.py": "def a(:\n",
    "lacking.py": "import no_such_library\n",
    "duplicate.py": GOOD
    + "@router.on('X')\nasync def b(call: Call) -> None: ...\n"
    + "@router.on('x')\nasync def c(call: Call) -> None: ...\n",
    "odd.toml": "[run]\ntargets = 'good:router'\nprefetch = 0\n",
    "untyped.py": GOOD + "@router.on('X')\nasync def b(call, data): ...\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vendors")
    for name, source in MODULES.items():
        (folder / name).write_text(source)
    return folder


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("run good:router --bogus", "No such option: --bogus"),
        ("run good:router --prefetch many", "--prefetch"),
        ("run good:router --prefetch 0", "greater than or equal to 1"),
        ("run good:router --prefetch 2001", "less than or equal to 2000"),
        ("run good:router --topology create", "'create' is not one of"),
        ("run good:router --drain-timeout nan", "--drain-timeout"),
        ("run good:router --drain-timeout inf", "inf is not a number of seconds"),
        ("run good:router --reply-prefix=", "every queue"),
        ("run good:router --prefix a*b", "at most 50 letters, digits"),
        (
            "run good:router --dialect mqtt",
            "'mqtt' is not one of 'native', 'web-ocpp', 'citrineos'",
        ),
        (
            "run spread:router --dialect citrineos",
            "in citrineos all vendors share queues, so Router('v') cannot have its own",
        ),
        ("topology export spread:router --dialect web-ocpp", "are for the native dialect"),
        ("run good:router --consumer-priority 128", "less than or equal to 127"),
        (
            "run good:router --answer-within 5",
            "--answer-within are for the dialects web-ocpp and citrineos",
        ),
        (
            "run good:router --gateway-exchange ocpp",
            "--gateway-exchange and --answer-within are for the dialects",
        ),
        ("run good:router --dialect citrineos --answer-within 0.5", "greater than or equal to 1"),
        ("run good:router --dialect citrineos --answer-within nan", "--answer-within"),
        (
            "run good:router --dialect web-ocpp --gateway-exchange a*b",
            "at most 127 letters, digits",
        ),
        (
            "run good:router --dialect web-ocpp --reply-prefix mine.",
            "--reply-prefix is for the native dialect",
        ),
        (
            "run good:router --processes 2 --answer-within 5",
            "for the dialects web-ocpp and citrineos",
        ),
        ("gateway --max-rate 0.5", "expected 0, for no bound, or at least 1"),
        ("gateway --max-rate nan", "--max-rate"),
        ("pause", "Missing argument 'VENDOR'"),
        ("pause v --timeout -1", "--timeout"),
        ("resume v w", "unexpected extra argument"),
        ("paused --bogus", "No such option: --bogus"),
        ("run good:router --events some", "'some' is not one of 'none', 'failures', 'all'"),
        ("run good:router --event-bodies", "--event-bodies is for --events failures or all"),
        ("tap --outcome lost", "there is no outcome 'lost', but accepted, rejected"),
        ("tap --count 0", "greater than or equal to 1"),
        ("tap --amqp-url http://localhost/", "is not a broker URL"),
        ("run", "Missing argument 'MODULE:NAME…'"),
        ("rnu", "No such command 'rnu'"),
        ("schema good:router --title a\udcff", "--title is no UTF-8"),
        ("schema good:router --api-version \udcff", "--api-version is no UTF-8"),
        ("check good", "'good' is not MODULE:NAME"),
        ("check :router", "':router' is not MODULE:NAME"),
        (
            "check ./vendors/good.py:router",
            "is a path; write the module as Python imports it: vendors.good:router",
        ),
        ("check nowhere:router", "there is no module 'nowhere'"),
        ("check lacking:router", "there is no module 'no_such_library'"),
        ("check bridge.vendors.acme", "there is no vendor pack 'bridge.vendors.acme'"),
        ("check good:nothing", "module good has no 'nothing'"),
        ("check good:Call", "not a Router or a list of them"),
        (
            "check raising:router",
            "importing raising failed with RuntimeError: the database is away",
        ),
        ("check exiting:router", "importing exiting asked the process to exit, with 0"),
        ("run exiting:router", "importing exiting asked the process to exit, with 0"),
        ("run exiting:router --processes 2", "importing exiting asked the process to exit"),
        ("check silent:router", "importing silent asked the process to exit, with None"),
        ("check lazy:router", "'router' cannot be had: SystemExit: 0"),
        ("check odd:router", "importing odd failed with Odd: two lines"),
        ("check broken:router", "importing broken failed with SyntaxError"),
        (
            "check duplicate:router",
            "duplicate.c and duplicate.b both handle messageId 'x' of vendor 'v'",
        ),
        ("check untyped:router", "untyped.b"),
        ("check twin:both", "there are two routers for vendor 'V'"),
        ("run good:router --amqp-url http://localhost/", "is not a broker URL"),
        ("run good:router --amqp-url amqp://", "is not a broker URL"),
        (
            "run good:router --amqp-url amqp://localhost:99999/",
            "the port is not a number up to 65535",
        ),
        (
            "run good:router --amqp-url amqps://localhost/?cafile=nowhere.pem",
            "cafile=nowhere.pem cannot be read: No such file or directory",
        ),
        (
            "gateway --amqp-url amqps://localhost/?cafile=good.py",
            "cafile=good.py holds no certificates",
        ),
        (
            "send --station A --vendor v --amqp-url amqps://localhost/?certfile=good.py",
            "certfile=good.py cannot be used",
        ),
        (
            "run good:router --amqp-url amqp://localhost/?cacertfile=x&cafiel=y",
            "unknown options: 'cacertfile', 'cafiel'; known are heartbeat, auth, passwordfile",
        ),
        (
            "run good:router --amqp-url amqp://me@localhost/?passwordfile=nowhere",
            "passwordfile=nowhere cannot be read: No such file or directory",
        ),
        ("run good:router --host-order first", "'first' is not one of 'random', 'given'"),
        ("run good:router --amqp-url amqp://localhost/?heartbeat=soon", "heartbeat=soon"),
        ("send --station A", "Missing option '--vendor'"),
        (f"send --station {'A' * 256} --vendor v", "a station id has 1 to 255 characters, not 256"),
        (f"send-to-station --station {'A' * 256} --vendor v", "a station id has 1 to 255"),
        ("send --station A --vendor v --data {", "--data is not JSON"),
        ("send --station A --vendor v --data {", "@FILE reads it from a file"),
        ("send --station A --vendor v --data @nowhere", "cannot be read from the file nowhere: No"),
        ("send --station A --vendor v --data @.", "cannot be read from the file .: Is a directory"),
        ("send --station A --vendor v --data @good.py", "--data in good.py is not JSON"),
        ("send --station A --vendor v --data -", "--data from standard input is not JSON"),
        ("run good:router --config nowhere.toml", "cannot be read from the file nowhere.toml: No"),
        ("run good:router --config good.py", "good.py is not TOML: "),
        ("run --config odd.toml", "greater than or equal to 1, in odd.toml"),
        ("send --station A --vendor v --ocpp-version 3", "ocpp"),
        ("send --station A --vendor v --timeout inf", "inf is not a number of seconds"),
        ("gateway --listen 9000", "'9000' is not HOST:PORT"),
        ("gateway --http 9100", "'9100' is not HOST:PORT"),
        ("run good:router --http localhost:http", "is not HOST:PORT, for example :9100"),
        ("run good:router --blocked-after nan", "--blocked-after"),
        ("run good:router --blocked-after inf", "inf is not a number of seconds"),
        ("health", "no address: give HOST:PORT, or set DTBRIDGE_HTTP"),
        ("health :0", "port 0 is any free one"),
        ("health localhost", "'localhost' is not HOST:PORT"),
        ("health :9100 --live --ready", "--live and --ready are two questions"),
        ("gateway --listen localhost:99999", "is not HOST:PORT"),
        ("gateway --path ocpp", "--path 'ocpp' is no path"),
        ("gateway --ocpp-versions ocpp3", "Unknown OCPP version 'ocpp3'"),
        ("gateway --tls-cert good.py", "--tls-cert and --tls-key go together"),
        (
            "gateway --tls-cert good.py --tls-key good.py",
            "the certificate good.py or its key good.py cannot be used",
        ),
        ("gateway --tls-cert no.pem --tls-key no.pem", "No such file"),
        ("gateway --path-pattern /ocpp", "'/ocpp' is no pattern: expected something like /*/{id}"),
        ("gateway --path /ocpp --path-pattern /{id}", "exclude each other"),
        ("gateway --default-version ocpp1.5", "ocpp1.5"),
        ("gateway --boot-hook nowhere:hook", "there is no module 'nowhere'"),
        ("gateway --boot-hook good:nothing", "module good has no 'nothing'"),
        ("gateway --password-file nowhere", "the password file nowhere cannot be read"),
        ("gateway --password-file good.py", "line 1: expected STATION_ID:HASH"),
        ("gateway --password-file good.py --station-password x", "exclude each other"),
        ("gateway --station-password=", "--station-password is empty"),
        ("gateway --station-password @nowhere", "the stations' password cannot be read from"),
        ("gateway --tls-client-ca good.py", "need --tls-cert and --tls-key"),
        ("gateway --tls-ciphers AES128-GCM-SHA256", "need --tls-cert and --tls-key"),
        ("gateway --tls-min-version 1.1", "'1.1' is not one of '1.2', '1.3'"),
        ("gateway --max-per-address 0", "greater than or equal to 1"),
        ("gateway --max-message 1", "greater than or equal to 1024"),
        ("gateway --call-timeout nan", "--call-timeout"),
        ("gateway --amqp-url http://localhost/", "is not a broker URL"),
        ("password", "Missing option '--station'"),
        (
            f"send --station A --vendor {'v' * 256}",
            "vendorId: expected a string of at most 255 characters",
        ),
        ("send-to-station --vendor v", "Missing option '--station'"),
        ("send-to-station --station A --vendor v --data {", "--data is not JSON"),
        (
            "send-to-station --station A --vendor v --ocpp-version ocpp1.6",
            "No such option: --ocpp-version",
        ),
        (
            f"send-to-station --station A --vendor v --message {'m' * 51}",
            "messageId: expected a string of at most 50",
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(folder: Path, arguments: str, told: str) -> None:
    done = dtbridge(*arguments.split(), folder=folder)
    assert told in sentence(done)
    assert done.returncode == 2


def test_reloading_without_its_extra_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['watchfiles'] = None"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    done = dtbridge(
        "run", "good:router", "--reload", settings={"PYTHONPATH": str(tmp_path)}, folder=folder
    )
    assert "pip install 'datatransfer-bridge[reload]'" in sentence(done)
    assert done.returncode == 2


def test_a_mistake_in_an_environment_variable_is_told_as_well(folder: Path) -> None:
    done = dtbridge(
        "run",
        settings={"DTBRIDGE_TARGETS": "good:router", "DTBRIDGE_CONCURRENCY": "0"},
        folder=folder,
    )
    assert "DTBRIDGE_CONCURRENCY" in sentence(done)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"DTBRIDGE_AMQP_URL": "amqp://u:Qx7@b", "DTBRIDGE_AMQP_URL_FILE": "good.py"},
            "DTBRIDGE_AMQP_URL and DTBRIDGE_AMQP_URL_FILE exclude each other",
        ),
        (
            {"DTBRIDGE_AMQP_URL_FILE": "nowhere"},
            "the broker's URL cannot be read from the file nowhere: No such file or directory",
        ),
        (
            {"DTBRIDGE_IDEMPOTENCY_FILE": "nowhere"},
            "the URL of the store cannot be read from the file nowhere: No such file",
        ),
        (
            {"DTBRIDGE_IDEMPOTENCY_FILE": "good.py"},
            "the file good.py does not say where the store of replies is",
        ),
    ],
)
def test_a_mistake_about_a_file_with_a_secret_is_told_in_one_sentence(
    folder: Path, settings: dict[str, str], told: str
) -> None:
    done = dtbridge("run", "good:router", settings=settings, folder=folder)
    assert told in sentence(done)
    assert done.returncode == 2
    assert "Qx7" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "run good:router --connect-timeout 0.2",
        "gateway --listen 127.0.0.1:0 --connect-timeout 0.2",
        "send --station A --vendor v --timeout 0.2",
        "send-to-station --station A --vendor v --timeout 0.2",
    ],
)
def test_an_unreachable_broker_is_told_without_its_password(folder: Path, command: str) -> None:
    (port,) = free_ports(1)
    done = dtbridge(
        *command.split(),
        "--amqp-url",
        f"amqp://me:secret@127.0.0.1:{port}/",
        folder=folder,
        command=SCRIPT,
    )
    assert f"no broker at amqp://me:***@127.0.0.1:{port}/: " in sentence(done)
    assert "refused" in done.stderr
    assert "secret" not in done.stderr
    assert done.returncode == 1


WITH_A_BROKER = [
    "run good:router",
    "run good:router --processes 2",
    "gateway",
    "send --station A --vendor v",
    "send-to-station --station A --vendor v",
    "dead list",
    "dead purge --yes",
    "doctor",
    "top",
    "demo",
]


@pytest.mark.parametrize("command", WITH_A_BROKER)
@pytest.mark.parametrize(
    "url",
    ["amqp://a/,amqp://u:12#Qx7,Zk9@b/", "amqp://u:Qx7[/@Zk9@b/", "amqp://u:Qx7 Zk9@b/"],
)
def test_no_part_of_a_password_is_told(folder: Path, command: str, url: str) -> None:
    """`tests/properties/test_urls.py` tries any characters."""
    done = dtbridge(*command.split(), settings={"DTBRIDGE_AMQP_URL": url}, folder=folder)
    assert "is not a broker URL: " in done.stderr + done.stdout
    assert "percent-encoded" in done.stderr + done.stdout
    assert done.returncode == (1 if command == "demo" else 2)
    assert not [part for part in ("Qx7", "Zk9") if part in done.stderr + done.stdout]


@pytest.mark.parametrize(
    "command",
    [
        "check amqp://u:Qx7/@Zk9@b/",
        "run good:router amqp://u:Qx7,Zk9@b/",
        "run good:router --amqp-url amqp://u:Qx7 Zk9@b/",
        "send --station A --vendor v amqp://u:Qx7(Zk9@b/",
        "dead list --limit amqp://u:Qx7'Zk9@b/",
        "demo amqp://u:Qx7 Zk9@b/",
    ],
)
def test_a_url_at_the_wrong_place_is_not_told(folder: Path, command: str) -> None:
    done = dtbridge(*command.split(), folder=folder)
    assert done.returncode == 2
    assert not [part for part in ("Qx7", "Zk9") if part in sentence(done)]


@pytest.mark.parametrize(
    "command", ["run good:router --connect-timeout 1", "send --station A --vendor v --timeout 1"]
)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("guest:guest@", "guest:secret@"), "it refused the user name or password"),
        (("/test-", "/nowhere-"), "NOT_ALLOWED - vhost nowhere-"),
    ],
)
def test_a_broker_that_refuses_is_told(
    folder: Path, amqp_url: str, command: str, wrong: tuple[str, str], told: str
) -> None:
    done = dtbridge(*command.split(), "--amqp-url", amqp_url.replace(*wrong), folder=folder)
    assert told in sentence(done)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("mode", "told"),
    [("verify", "exchange 'datatransfer.unrouted': NOT_FOUND"), ("none", "queue 'datatransfer.v'")],
)
def test_a_topology_that_is_not_there_is_told(
    folder: Path, amqp_url: str, mode: str, told: str
) -> None:
    assert told in sentence(
        dtbridge("run", "good:router", "--amqp-url", amqp_url, "--topology", mode, folder=folder)
    )


@pytest.mark.parametrize(
    ("dialect", "mode", "told"),
    [
        ("web-ocpp", "verify", "exchange 'datatransfer.dead': NOT_FOUND"),
        ("web-ocpp", "none", "queue 'datatransfer-web-ocpp.ocpp16' cannot be consumed: NOT_FOUND"),
        ("citrineos", "verify", "exchange 'citrineos': NOT_FOUND"),
        ("citrineos", "none", "queue 'datatransfer-citrineos' cannot be consumed: NOT_FOUND"),
    ],
)
def test_a_dialects_topology_that_is_not_there_is_told(
    folder: Path, amqp_url: str, dialect: str, mode: str, told: str
) -> None:
    options = ["--amqp-url", amqp_url, "--topology", mode, "--dialect", dialect]
    assert told in sentence(dtbridge("run", "good:router", *options, folder=folder))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_that_is_taken_is_told(amqp_url: str, processes: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--listen", listen, "--processes", processes, "--amqp-url", amqp_url]
        done = dtbridge("gateway", *options)
    assert f"cannot listen on {listen}: " in sentence(done)
    assert done.returncode == 1


@pytest.mark.parametrize(
    "command",
    ["gateway", "gateway --processes 2", "run good:router", "run --processes 2 good:router"],
)
def test_a_port_for_probes_that_is_taken_is_told(folder: Path, amqp_url: str, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        done = dtbridge(*command.split(), "--http", http, "--amqp-url", amqp_url, folder=folder)
    assert sentence(done) == f"cannot listen on {http}: Address already in use"
    assert done.returncode == 1


def test_sending_where_no_worker_has_ever_been_is_told(amqp_url: str) -> None:
    done = dtbridge("send", "--station", "A", "--vendor", "v", "--amqp-url", amqp_url)
    assert "no queue takes the request" in sentence(done)
    assert done.returncode == 1
