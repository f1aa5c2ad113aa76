"""Redfish: a controller's resources, served over HTTP and HTTPS."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt.errors import MalformedValueError
from lithowatt.reference._energy import Unreadable
from lithowatt.reference.redfish import Redfish

V1 = "/redfish/v1"

# In the form of the DMTF's schemas Power 1.5 and EnvironmentMetrics 1.0.
OLD: dict[str, Any] = {
    f"{V1}/Chassis": {"Members": [{"@odata.id": f"{V1}/Chassis/1U"}]},
    f"{V1}/Chassis/1U": {"Id": "1U", "Power": {"@odata.id": f"{V1}/Chassis/1U/Power"}},
    f"{V1}/Chassis/1U/Power": {
        "PowerControl": [
            {"Name": "System", "PowerConsumedWatts": 344, "PowerCapacityWatts": 800},
            {"Name": "CPU", "PowerConsumedWatts": 120},
        ]
    },
}
NEW: dict[str, Any] = {
    f"{V1}/Chassis": {"Members": [{"@odata.id": f"{V1}/Chassis/Blade"}]},
    f"{V1}/Chassis/Blade": {
        "EnvironmentMetrics": {"@odata.id": f"{V1}/Chassis/Blade/EnvironmentMetrics"},
        "Power": {"@odata.id": f"{V1}/Chassis/Blade/Power"},
    },
    f"{V1}/Chassis/Blade/EnvironmentMetrics": {"PowerWatts": {"Reading": 374.5}},
}


def read(address: str) -> float:
    """One look."""
    with closing(Redfish(address)) as meter:
        return meter.read()


class Asked(list[tuple[str, str, str | None]]):
    """Verb, place and credentials of each request."""


@contextmanager
def served(
    resources: dict[str, Any], password: str | None = None, certificate: Path | None = None
) -> Iterator[tuple[str, Asked]]:
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            asked.append((self.command, self.path, given))
            code, content = 200, resources.get(self.path)
            if password is not None:
                wanted = "Basic " + base64.b64encode(password.encode()).decode()
                code = 200 if given == wanted else 401
            if code == 200 and content is None:
                code = 404
            if isinstance(content, int):
                code = content
            body = json.dumps(content).encode()
            self.send_response(code)
            if code == 301:
                self.send_header("Location", "http://192.0.2.1/redfish/v1/Chassis")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Not here."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1's own, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    path = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path / "key"), "-out", str(path / "cert")]
    subprocess.run(command, check=True, capture_output=True)
    (path / "both").write_bytes((path / "key").read_bytes() + (path / "cert").read_bytes())
    return path / "both"


@pytest.mark.parametrize(("resources", "watts"), [(OLD, 344.0), (NEW, 374.5)])
def test_the_chassis_power_by_both_schemas(resources: dict[str, Any], watts: float) -> None:
    with served(resources) as (address, asked):
        with closing(Redfish(address)) as meter:
            assert [meter.read(), meter.read()] == [watts, watts]
        assert {verb for verb, *_ in asked} == {"GET"}
        # What is where is asked once.
        assert len(asked) == 5


def test_a_window_has_its_joules() -> None:
    with served(OLD) as (address, _):
        controller = Redfish(address)
        # One that has a new value all the time.
        controller.sensor = controller.sensor._replace(update=1e-6, delay=0.0)
        with EnergyMeter("psutil", reference=controller) as meter:
            sum(range(1000))
        found = meter.reading.machine_reference["redfish"]
        assert found.energy is not None, found.reason
        true = 344 * meter.reading.duration
        assert found.energy.value == pytest.approx(true)
        assert found.energy.low < true < found.energy.high


def test_several_chassis_are_not_added(tmp_path: Path) -> None:
    both = OLD | NEW
    both[f"{V1}/Chassis"] = {
        "Members": [{"@odata.id": f"{V1}/Chassis/{name}"} for name in ("1U", "Blade")]
    }
    with served(both) as (address, _):
        with pytest.raises(Unreadable, match=r"several chassis; add \?chassis= .* 1U, Blade"):
            read(address)
        assert read(f"{address}?chassis=Blade") == 374.5
        with pytest.raises(Unreadable, match="power of no chassis"):
            read(f"{address}?chassis=2U")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({f"{V1}/Chassis": 301}, "status 301"),
        ({f"{V1}/Chassis": 503}, "status 503"),
        ({f"{V1}/Chassis": {"Members": [{"@odata.id": "http://192.0.2.1/x"}]}}, "no chassis"),
        ({f"{V1}/Chassis": {"Members": [{"@odata.id": f"{V1}//192.0.2.1"}]}}, "no chassis"),
        (
            {f"{V1}/Chassis/1U/Power": {"PowerControl": [{"PowerConsumedWatts": None}]}},
            "no chassis",
        ),
        ({f"{V1}/Chassis/1U/Power": {"PowerControl": {}}}, "no chassis"),
        ({f"{V1}/Chassis": ["a list"]}, "no object"),
    ],
)
def test_what_is_strange_is_a_reason(change: dict[str, Any], why: str) -> None:
    with served(OLD | change) as (address, _), pytest.raises(Unreadable, match=why):
        read(address)


def test_nobody_there_is_a_reason() -> None:
    with served(OLD) as (address, _):
        pass
    with pytest.raises(Unreadable, match=r"127\.0\.0\.1: ConnectionRefusedError"):
        read(address)


def test_a_password_is_sent_over_checked_tls_only(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("lithowatt:s3cret:with colon\n")
    secret.chmod(0o600)
    with served(OLD, "lithowatt:s3cret:with colon", certificate) as (address, asked):
        with pytest.raises(Unreadable, match="certificate verify failed"):
            read(f"{address}?credentials={secret}")
        assert asked == []
        good = f"{address}?credentials={secret}&ca={certificate}"
        assert read(good) == 344.0
        with pytest.raises(Unreadable, match=r"asks for a name and password \(401\)") as refused:
            read(f"{address}?ca={certificate}")
        assert "s3cret" not in str(refused.value)
        monkeypatch.setenv("LITHOWATT_REDFISH_USER", "lithowatt")
        monkeypatch.setenv("LITHOWATT_REDFISH_PASSWORD", "s3cret:with colon")
        assert read(f"{address}?ca={certificate}") == 344.0


def test_a_password_that_others_may_see_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("user:password\n")
    secret.chmod(0o644)
    with pytest.raises(MalformedValueError, match=r"may be read by others.*chmod 600"):
        Redfish(f"https://bmc.example?credentials={secret}")
    secret.chmod(0o600)
    with pytest.raises(MalformedValueError, match="over https only"):
        Redfish(f"http://bmc.example?credentials={secret}")
    link = tmp_path / "link"
    link.symlink_to(secret)
    with pytest.raises(MalformedValueError, match="link"):
        Redfish(f"https://bmc.example?credentials={link}")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(MalformedValueError, match="is no regular file"):
        Redfish(f"https://bmc.example?credentials={tmp_path / 'pipe'}")
    with pytest.raises(MalformedValueError, match="a password in an address") as refused:
        Redfish("https://user:hidden@bmc.example")
    assert "hidden" not in str(refused.value)
    for wrong in ("bmc.example", "ftp://bmc.example", "https://"):
        with pytest.raises(MalformedValueError, match="no address"):
            Redfish(wrong)
