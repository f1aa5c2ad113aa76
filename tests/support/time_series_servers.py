"""A real Prometheus, Pushgateway or InfluxDB on ports of its own, ended with the test."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

_T = TypeVar("_T")

PATIENCE = 60.0
"""Seconds that a server on a busy machine may take for what it does in one."""


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str:
    """The path of a program, or the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(
            f"no {name}: apt-get install --no-install-recommends prometheus prometheus-pushgateway "
            "influxdb"
        )
    return found


def until(what: str, look: Callable[[], _T | None]) -> _T:
    """What ``look`` gives once it gives anything true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = None
        with contextlib.suppress(OSError):
            found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


def get(url: str) -> str:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


@contextlib.contextmanager
def _running(command: list[str], ready: str, log: Path) -> Iterator[None]:
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:

        def look() -> bool:
            assert process.poll() is None, log.read_text()
            get(ready)
            return True

        until(f"{command[0]} is ready", look)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Prometheus:
    """A Prometheus that scrapes ``targets``, as job ``lithowatt``, once a second."""

    def __init__(self, folder: Path, *targets: str, rules: Path | None = None) -> None:
        self.binary = program("prometheus")
        self.folder = folder
        self.targets = targets
        self.rules = rules
        self.url = f"http://127.0.0.1:{free_port()}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Prometheus]:
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [] if self.rules is None else [str(self.rules)],
            "scrape_configs": [
                {
                    "job_name": "lithowatt",
                    "honor_labels": True,
                    "static_configs": [{"targets": list(self.targets)}],
                }
            ],
        }
        path = self.folder / "prometheus.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        command = [self.binary, f"--config.file={path}"]
        command += [f"--storage.tsdb.path={self.folder / 'tsdb'}"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}"]
        log = self.folder / "prometheus.log"
        with _running(command, f"{self.url}/-/ready", log):
            yield self

    def api(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP API."""
        query = urllib.parse.urlencode(parameters)
        try:
            told = json.loads(get(f"{self.url}/api/v1/{path}?{query}"))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert told["status"] == "success", told
        return told["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an instant query."""
        data = self.api("query", query=expression)
        results = data["result"]
        if data["resultType"] == "scalar":
            return [({}, float(results[1]))]
        return [(one["metric"], float(one["value"][1])) for one in results]


@contextlib.contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """The address of a running Pushgateway."""
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus-pushgateway"), f"--web.listen-address={address}"]
    # Debian's keeps what was pushed in a file of the machine's.
    command.append("--persistence.file=")
    with _running(command, f"http://{address}/-/ready", folder / "pushgateway.log"):
        yield address


class InfluxDB:
    """A running InfluxDB 1 with one database, ``calls``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"

    @contextlib.contextmanager
    def running(self) -> Iterator[InfluxDB]:
        binary = program("influxd")
        config = self.folder / "influxdb.conf"
        config.write_text(
            f"""
            reporting-enabled = false
            bind-address = "127.0.0.1:{free_port()}"
            [meta]
            dir = "{self.folder}/meta"
            [data]
            dir = "{self.folder}/data"
            wal-dir = "{self.folder}/wal"
            [monitor]
            store-enabled = false
            [http]
            bind-address = "{self.url.removeprefix("http://")}"
            """
        )
        command = [binary, "-config", str(config)]
        with _running(command, f"{self.url}/ping", self.folder / "influxdb.log"):
            self._send("query", "", q="CREATE DATABASE calls")
            yield self

    def _send(self, path: str, body: str, **parameters: str) -> str:
        url = f"{self.url}/{path}?{urllib.parse.urlencode(parameters)}"
        request = urllib.request.Request(url, data=body.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            told: str = answer.read().decode()
            return told

    def write(self, lines: str) -> None:
        """Writes lines; what is refused is an error with the reason."""
        try:
            self._send("write", lines, db="calls", precision="ns")
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def rows(self, measurement: str) -> list[dict[str, Any]]:
        """All rows: fields and tags by name; what is missing is ``None``."""
        query = f'SELECT * FROM "{measurement}"'
        told = json.loads(self._send("query", "", db="calls", epoch="ns", q=query))
        (result,) = told["results"]
        return [
            dict(zip(series["columns"], values, strict=True))
            for series in result.get("series", [])
            for values in series["values"]
        ]
