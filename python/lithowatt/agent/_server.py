"""The agent's state as OpenMetrics text, and the HTTP server that shows it."""

from __future__ import annotations

import abc
import contextlib
import io
import ipaddress
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lithowatt import _core
from lithowatt.agent._beginnings import Beginnings
from lithowatt.agent._gpus import Gpus
from lithowatt.agent._mirror import newest
from lithowatt.agent._references import Totals
from lithowatt.export.openmetrics import CONTENT_TYPE, openmetrics

MOST_REQUESTS = 8
"""Answered at once, so that nobody can fill the agent; who comes meanwhile gets the place of the
slowest."""

REQUEST_SECONDS = 5.0
"""From the connection to the end of the answer; a client that is slower is left."""

QUICK_SECONDS = 0.5
"""A client that has taken less is not left for another one's sake."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.7")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_name(host: str | None, loopback: bool) -> bool:
    """Whether a request's ``Host`` is one that a person typed, and not a name that somebody made
    point here (DNS rebinding): an address, ``localhost`` or this machine's own name.

    >>> may_name("127.0.0.1:9478", True), may_name("localhost:8080", True), may_name("[::1]", True)
    (True, True, True)
    >>> may_name("evil.example:9478", True), may_name("10.0.0.7", True), may_name(None, False)
    (False, False, False)
    >>> may_name("10.0.0.7:9478", False)
    True
    """
    if not host:
        return False
    name = host.lower()
    if name.startswith("["):
        name, bracket, rest = name[1:].partition("]")
        if not bracket:
            return False
    else:
        name, _, rest = name.partition(":")
        rest = f":{rest}" if rest or name != host.lower() else ""
    if rest and not (rest.startswith(":") and rest[1:].isdecimal()):
        return False
    if is_loopback(name):
        return True
    if loopback:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == socket.gethostname().lower()
    return True


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

    def any(self) -> bool:
        """Whether somebody is being answered."""
        with self._lock:
            return bool(self._since)


class LimitedServer(ThreadingHTTPServer):
    """Answers so many requests at once, each within so many seconds."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[RequestHandler]) -> None:
        """Binds ``address``.

        Raises:
            OSError: Where it cannot be bound.
        """
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._requests = _Requests()
        super().__init__(address, handler)

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

    def settle(self, seconds: float) -> None:
        """Waits, so long at most, until whoever is being answered has the answer: the threads that
        answer end with the process."""
        until = time.monotonic() + seconds
        while self._requests.any() and time.monotonic() < until:
            time.sleep(0.005)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class MetricsServer(LimitedServer):
    """Serves ``/metrics`` and ``/healthz``, and ``/ring`` where that is asked for."""

    agent: _core.Agent
    ring: str | None = None
    beginnings: Beginnings | None = None
    references: Totals | None = None
    gpus: Gpus | None = None

    def __init__(self, address: tuple[str, int]) -> None:
        """Binds ``address``.

        Raises:
            OSError: Where it cannot be bound.
        """
        super().__init__(address, _Handler)

    def serve(
        self,
        agent: _core.Agent,
        ring: str | None = None,
        beginnings: Beginnings | None = None,
        references: Totals | None = None,
        gpus: Gpus | None = None,
    ) -> None:
        """Answers for ``agent`` from a thread of its own, which ends with the process; with
        ``ring``, gives that, too, with ``beginnings`` when counters began, with ``references``
        the meters of the whole machine, and with ``gpus`` its GPUs."""
        self.agent = agent
        self.ring = ring
        self.beginnings = beginnings
        self.references = references
        self.gpus = gpus
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


class RequestHandler(BaseHTTPRequestHandler, abc.ABC):
    """One request, from its connection to the end of its answer within ``REQUEST_SECONDS``."""

    server_version = "lithowatt"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self._until = time.monotonic() + REQUEST_SECONDS
        self.rfile = io.BufferedReader(_UntilThen(self.connection, self._until))

    @abc.abstractmethod
    def do_GET(self) -> None:
        """Answers the request."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, code: int, content: str, text: str) -> None:
        self._send(code, content, text.encode())

    def _expect_time(self) -> None:
        # For all of what is sent, and not for each part of it.
        _expect_time(self.connection, self._until)

    def _send(self, code: int, content: str, body: bytes) -> None:
        self._expect_time()
        self.send_response(code)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""


class _Handler(RequestHandler):
    server: MetricsServer

    def _is_foreign(self) -> bool:
        """Whether a page of another site uses a reader's browser to ask. What scrapes sends none of
        these headers, and may use any name."""
        headers = self.headers
        site = headers.get("Sec-Fetch-Site", "none")
        # A link to it may be followed.
        if site not in ("same-origin", "none") and headers.get("Sec-Fetch-Mode") != "navigate":
            return True
        if headers.get("Origin") is not None:
            return True
        browser = "Accept-Language" in headers or "Sec-Fetch-Site" in headers
        browser = browser or headers.get("User-Agent", "").startswith("Mozilla/")
        return browser and not may_name(headers.get("Host"), False)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        # Whether the agent is alive is no secret.
        if path != "/healthz" and self._is_foreign():
            self._answer(
                403,
                "text/plain",
                "a browser is answered at an address, localhost or this machine's name only\n",
            )
        elif path == "/metrics":
            beginnings = self.server.beginnings
            since = None if beginnings is None else beginnings.look()
            references = self.server.references
            whole = [] if references is None else references.look()
            gpus = [] if self.server.gpus is None else self.server.gpus.look()
            snapshot = self.server.agent.snapshot()
            text = openmetrics(snapshot, _core.__version__, since, whole, gpus)
            self._answer(200, CONTENT_TYPE, text)
        elif path == "/healthz":
            healthy = self.server.agent.alive
            self._answer(200 if healthy else 503, "text/plain", "ok\n" if healthy else "dead\n")
        elif path == "/ring" and self.server.ring is not None:
            self._send(200, "application/octet-stream", newest(self.server.ring))
        else:
            self._answer(404, "text/plain", "there are /metrics and /healthz\n")
