"""The agent's page: its files, its events, and who may read them."""

from __future__ import annotations

import socket
import threading
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lithowatt.agent._server import LimitedServer, RequestHandler, is_loopback, may_name

if TYPE_CHECKING:
    from lithowatt.agent._live import Live

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}

HEADERS = {
    # Nothing from elsewhere, nothing inline, in no frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageServer(LimitedServer):
    """Serves the page and ``/events``."""

    live: Live

    def __init__(self, address: tuple[str, int]) -> None:
        """Binds ``address``.

        Raises:
            OSError: Where it cannot be bound.
        """
        self.loopback = is_loopback(address[0])
        self._kept: set[socket.socket] = set()
        super().__init__(address, _PageHandler)

    def serve(self, live: Live) -> None:
        """Answers from a thread of its own, which ends with the process."""
        self.live = live
        run = threading.Thread(
            target=self.serve_forever, args=(3600.0,), name="page-requests", daemon=True
        )
        run.start()

    def keep(self, request: socket.socket) -> bool:
        """Hands a connection over to the events; whether it was taken."""
        self._kept.add(request)
        if self.live.add(request):
            return True
        self._kept.discard(request)
        return False

    def shutdown_request(self, request: Any) -> None:
        if request in self._kept:
            # It is not this server's any more.
            self._kept.discard(request)
            return
        super().shutdown_request(request)


class _PageHandler(RequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        why = self._refusal()
        if why is not None:
            self._answer(403, "text/plain", f"{why}\n")
            return
        path = self.path.partition("?")[0]
        if path in FILES:
            name, kind = FILES[path]
            self._send(
                200, kind, files("lithowatt.agent").joinpath("page").joinpath(name).read_bytes()
            )
        elif path == "/events" and self.command == "GET":
            self._events()
        else:
            self._answer(404, "text/plain", "there are / and /events\n")

    def _refusal(self) -> str | None:
        """Why this request is not answered: pages of other sites may not use the reader's browser
        to read this one."""
        if not may_name(self.headers.get("Host"), self.server.loopback):
            return "this page is not served by that name"
        if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            # A link to it may be followed.
            navigated = self.headers.get("Sec-Fetch-Mode") == "navigate"
            if not (navigated and self.path == "/"):
                return "this page answers no other site"
        origin = self.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != self.headers.get("Host"):
            return "this page answers no other site"
        return None

    def _events(self) -> None:
        if self.server.live.full:
            self._answer(
                503, "text/plain", "too many pages are open; expected one of them closed\n"
            )
            return
        self._expect_time()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.close_connection = True
        self.end_headers()
        # A browser that was left asks again after so many ms.
        self.wfile.write(b"retry: 2000\n\n")
        self.wfile.flush()
        self.server.keep(self.connection)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()
