"""A Prometheus of a test's own: on loopback, configured as the project's, and gone at the end."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML

from bridge.testing.rabbitmq import free_ports
from tests.integration.support import PATIENCE
from tests.monitoring.expressions import PROMETHEUS, RULES, yaml

START_TIMEOUT = 60.0
"""Seconds until it must be ready; it needs about one."""
INTERVAL = "1s"
"""Between two scrapes, and between two looks at the rules."""


class Series:
    """One series of an answer: its labels, and its values at some times."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.labels: dict[str, str] = found["metric"]
        self.points = [(float(when), float(value)) for when, value in found["values"]]


class PrometheusServer:
    """It scrapes as ``deploy/prometheus/prometheus.yml`` says, but these targets, once a second."""

    def __init__(self, targets: Mapping[str, Sequence[int]]) -> None:
        """`targets`: ports on loopback, by the name that the configuration looks up."""
        program = shutil.which("prometheus")
        assert program, "prometheus is not on PATH: `make test` installs it with apt-get"
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="dtbridge-prometheus-")
        self._targets = targets
        self._process: subprocess.Popen[bytes] | None = None
        [self.port] = free_ports(1)

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        config = folder / "prometheus.yml"
        with config.open("w") as file:
            YAML().dump(self._configuration(), file)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_ready(folder / "log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _configuration(self) -> Any:
        config = yaml(PROMETHEUS / "prometheus.yml")
        config["global"] = dict.fromkeys(config["global"], INTERVAL)
        config["rule_files"] = [str(RULES)]
        for job in config["scrape_configs"]:
            (looked_up,) = job.pop("dns_sd_configs")
            (name,) = looked_up["names"]
            ports = self._targets[name]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        return config

    def _wait_ready(self, log: Path) -> None:
        give_up_at = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < give_up_at, log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def over_time(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[Series]:
        """The series of an expression between two times, NaN left out.

        Raises AssertionError with Prometheus' own words if it cannot be evaluated.
        """
        answer = self._ask(
            "query_range", query=expression, start=str(start), end=str(end), step=str(step)
        )
        found = [Series(each) for each in answer["result"]]
        for series in found:
            series.points = [(when, value) for when, value in series.points if value == value]  # noqa: PLR0124 - NaN
        return [series for series in found if series.points]

    def at(self, expression: str, when: float) -> list[Series]:
        """The series of an expression at one time."""
        return self.over_time(expression, when, when)

    def targets(self) -> dict[str, str]:
        """Job and address of each target that does not answer, and why."""
        return {
            f"{target['labels']['job']} {target['labels']['instance']}": target["lastError"]
            for target in self._ask("targets")["activeTargets"]
            if target["health"] != "up"
        }

    def rule_errors(self) -> dict[str, str]:
        """What the rules that could not be evaluated say."""
        return {
            rule["name"]: rule["lastError"]
            for group in self._ask("rules")["groups"]
            for rule in group["rules"]
            if rule.get("lastError")
        }

    def until(self, expression: str) -> None:
        """Wait until an expression has a value."""
        give_up_at = time.monotonic() + PATIENCE
        while not self.at(expression, time.time()):
            assert time.monotonic() < give_up_at, f"{expression} has no value"
            time.sleep(0.2)

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.load(error)
        assert told["status"] == "success", f"{parameters}: {told['error']}"
        return told["data"]
