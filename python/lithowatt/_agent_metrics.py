"""The agent's state as OpenMetrics text, and the HTTP server that shows it."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._agent_mirror import newest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MOST_REQUESTS = 8
"""Answered at once, so that nobody can fill the agent; who comes meanwhile gets the place of the
slowest."""

REQUEST_SECONDS = 5.0
"""From the connection to the end of the answer; a client that is slower is left."""

QUICK_SECONDS = 0.5
"""A client that has taken less is not left for another one's sake."""

_Sample = tuple[dict[str, str], float]


def openmetrics(snapshot: Mapping[str, Any], version: str) -> str:
    """The text of a scrape (OpenMetrics 1.0). Energies in J, times in s, all since the agent's
    ring began.

    ``node`` = ``idle`` + ``rest`` + ``gone`` + the sum over pods and over containers that are in
    no pod (``pod_uid=""``).
    """
    node = {"node": snapshot["node"]} if snapshot["node"] else {}
    lines: list[str] = []

    def family(name: str, kind: str, unit: str, text: str, samples: Iterable[_Sample]) -> None:
        lines.append(f"# TYPE {name} {kind}")
        if unit:
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {text}")
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        for labels, value in samples:
            lines.append(f"{name}{suffix}{_labels({**labels, **node})} {value!r}")

    def joules(name: str, text: str, samples: Iterable[_Sample]) -> None:
        family(f"lithowatt_{name}_energy_joules", "counter", "joules", text, samples)

    def seconds(name: str, text: str, samples: Iterable[_Sample]) -> None:
        family(f"lithowatt_{name}_cpu_seconds", "counter", "seconds", text, samples)

    about = {"version": version, "layout": str(snapshot["layout"])}
    about["idle_source"] = snapshot["idle_source"]
    family("lithowatt_agent", "info", "", "The agent.", [(about, 1)])
    joules(
        "machine",
        "Energy by counter since its zero; psys holds packages, packages hold core and uncore.",
        [
            (
                {
                    "method": zone["method"],
                    "domain": zone["domain"],
                    "package": str(zone["package"]),
                    "zone": zone["name"],
                },
                zone["joules"],
            )
            for zone in snapshot["zones"]
            if zone["readable"]
        ],
    )
    joules("node", "Packages and DRAM.", [({}, snapshot["machine_joules"])])
    joules("idle", "What the machine would have used at rest.", [({}, snapshot["idle_joules"])])
    joules("rest", "Above idle, in no container.", [({}, snapshot["rest_joules"])])
    joules("gone", "Above idle, in containers that ended.", [({}, snapshot["gone_joules"])])
    containers, pods = [], []
    for group in snapshot["groups"]:
        if group["kind"] == "pod":
            pods.append(({"pod_uid": group["pod_uid"] or ""}, group))
        else:
            labels = {
                "container_id": group["container_id"] or "",
                "pod_uid": group["pod_uid"] or "",
                "runtime": group["runtime"] or "",
            }
            containers.append((labels, group))
    for name, groups in (("container", containers), ("pod", pods)):
        joules(
            name, f"Above idle, by {name}.", [(labels, group["joules"]) for labels, group in groups]
        )
        seconds(
            name,
            f"CPU time of everything in the {name}.",
            [(labels, group["cpu_seconds"]) for labels, group in groups],
        )
    seconds("machine_busy", "CPU time used, all CPUs.", [({}, snapshot["busy_seconds"])])
    seconds("agent", "CPU time of the agent's sampler.", [({}, snapshot["cpu_seconds"])])
    for name, text in (
        ("samples", "Samples taken."),
        ("late", "Samples more than a period late."),
    ):
        family(f"lithowatt_agent_{name}", "counter", "", text, [({}, snapshot[name])])
    lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        for value in labels.values()
    )
    return "{" + ",".join(f'{k}="{v}"' for k, v in zip(labels, escaped, strict=True)) + "}"


class _Requests:
    """The connections that are being answered, at most ``MOST_REQUESTS`` of them.

    Whoever comes while all places are taken gets that of the slowest: a client that is quick, such
    as a probe of whether the agent is alive, is answered whatever others do.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        #: Those that were left and whose threads have not ended yet.
        self._left: set[socket.socket] = set()

    def enter(self, request: socket.socket) -> bool:
        """Takes a place; False where there is none, because all of them are quick."""
        now = time.monotonic()
        with self._lock:
            if len(self._left) >= MOST_REQUESTS:
                return False
            if len(self._since) >= MOST_REQUESTS:
                slowest = min(self._since, key=self._since.__getitem__)
                if now - self._since[slowest] < QUICK_SECONDS:
                    return False
                del self._since[slowest]
                self._left.add(slowest)
                # Ends what its thread waits for; the thread closes it.
                with contextlib.suppress(OSError):
                    slowest.shutdown(socket.SHUT_RDWR)
            self._since[request] = now
        return True

    def leave(self, request: socket.socket) -> None:
        """Gives the place back."""
        with self._lock:
            self._since.pop(request, None)
            self._left.discard(request)


class MetricsServer(ThreadingHTTPServer):
    """Serves ``/metrics`` and ``/healthz``, and ``/ring`` where that is asked for."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    agent: _core.Agent
    ring: str | None = None

    def __init__(self, address: tuple[str, int]) -> None:
        """Binds ``address``.

        Raises:
            OSError: Where it cannot be bound.
        """
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._requests = _Requests()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._requests.enter(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._requests.leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._requests.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""

    def serve(self, agent: _core.Agent, ring: str | None = None) -> None:
        """Answers for ``agent`` from a thread of its own, which ends with the process; with
        ``ring``, gives that, too."""
        self.agent = agent
        self.ring = ring
        # A long poll costs nothing: a request wakes it, and nobody waits for its end.
        run = threading.Thread(
            target=self.serve_forever, args=(3600.0,), name="metrics", daemon=True
        )
        run.start()


class _UntilThen(io.RawIOBase):
    """What a client sends, until a moment: a timeout of the socket begins anew with each byte."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection = connection
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _expect_time(self._connection, self._until)
        return self._connection.recv_into(buffer)


def _expect_time(connection: socket.socket, until: float) -> None:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version = "lithowatt"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self._until = time.monotonic() + REQUEST_SECONDS
        self.rfile = io.BufferedReader(_UntilThen(self.connection, self._until))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            text = openmetrics(self.server.agent.snapshot(), _core.__version__)
            self._answer(200, CONTENT_TYPE, text)
        elif path == "/healthz":
            healthy = self.server.agent.alive
            self._answer(200 if healthy else 503, "text/plain", "ok\n" if healthy else "dead\n")
        elif path == "/ring" and self.server.ring is not None:
            self._send(200, "application/octet-stream", newest(self.server.ring))
        else:
            self._answer(404, "text/plain", "there are /metrics and /healthz\n")

    def _answer(self, code: int, content: str, text: str) -> None:
        self._send(code, content, text.encode())

    def _send(self, code: int, content: str, body: bytes) -> None:
        # For all of what is sent, and not for each part of it.
        _expect_time(self.connection, self._until)
        self.send_response(code)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no news."""
