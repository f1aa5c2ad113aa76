"""A server's management controller, asked over Redfish, the DMTF's interface over HTTPS.

Read only: nothing but GET is sent. Of each chassis the newer ``EnvironmentMetrics``
(``PowerWatts``), else the older ``Power`` (``PowerControl``, ``PowerConsumedWatts``) is read
(DSP0266, DSP2046).

Name and password come from ``LITHOWATT_REDFISH_USER`` and ``LITHOWATT_REDFISH_PASSWORD``, or from a
file ``user:password`` that its owner alone may read. They are sent over HTTPS with a checked
certificate only, and are in no message.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lithowatt.errors import MalformedValueError
from lithowatt.estimate import number
from lithowatt.reference._energy import Sensor, Unreadable
from lithowatt.reference._options import options_in
from lithowatt.reference._watch import Reference

__all__ = ["OPTIONS", "Redfish"]

OPTIONS = {
    "ca": "file with the certificates to trust, where the controller's is the company's own",
    "credentials": "file with user:password, readable by its owner alone",
    "chassis": "the chassis that is meant, where there are several",
}
"""What may follow the address, as in ``redfish:https://bmc.example?chassis=1``."""

ROOT = "/redfish/v1/"

ANSWER_SECONDS = 5.0

MOST_BYTES = 1 << 20

MOST_CHASSIS = 64

MOST_WATTS = 1e6

#: Controllers renew the value each second to each few; the shared error is an assumption, for the
#: standard states none.
SENSOR = Sensor(
    counts=False, update=5.0, delay=2.5, averaged=0.0, relative=0.05, step=1.0, gap=60.0
)

USER, PASSWORD = "LITHOWATT_REDFISH_USER", "LITHOWATT_REDFISH_PASSWORD"


class Redfish(Reference):
    """The power reading of a controller over the network."""

    name = "redfish"
    covers = "what the power supplies of the chassis take, as the maker chose; fans included"
    sensor = SENSOR
    period = 2.0

    def __init__(self, text: str) -> None:
        """``text``: an address, ``https://HOST[:PORT]``, with options after a ``?``.

        Raises:
            MalformedValueError: It is none, or credentials would be sent in clear.
        """
        super().__init__()
        url = urlsplit(text)
        options = options_in(url.query, OPTIONS, "redfish")
        if url.password is not None or url.username is not None:
            raise MalformedValueError(
                f"redfish: a password in an address is seen by others; expected {USER} and "
                f"{PASSWORD}, or credentials=FILE"
            )
        if url.scheme not in ("https", "http") or not url.hostname:
            raise MalformedValueError(
                f"redfish:{text[:80]!r} is no address; expected redfish:https://HOST[:PORT]"
            )
        self._host, self._port = url.hostname, url.port
        self._chassis = options.get("chassis")
        self._headers = {"Accept": "application/json", "OData-Version": "4.0"}
        credentials = _credentials(options.get("credentials"))
        self._context: ssl.SSLContext | None = None
        if url.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=options.get("ca"))
            except (OSError, ssl.SSLError) as error:
                raise MalformedValueError(
                    f"redfish: ca={options.get('ca')!r} is no file of certificates ({error})"
                ) from None
        elif credentials is not None:
            raise MalformedValueError("redfish: a password is sent over https only, not over http")
        if credentials is not None:
            coded = base64.b64encode(credentials.encode()).decode()
            self._headers["Authorization"] = f"Basic {coded}"
        self._connection: http.client.HTTPConnection | None = None
        #: Where the readings are, once they were found.
        self._places: list[tuple[str, str]] = []

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self) -> float:
        """Power of the chassis, W.

        Raises:
            Unreadable: The controller does not answer, refuses, or has no reading.
        """
        try:
            if not self._places:
                self._places = self._found()
            total = 0.0
            for place, form in self._places:
                watts = power_in(self._get(place), form)
                if watts is None:
                    raise Unreadable(f"{place} shows no power now")
                total += watts
            return total
        except Unreadable:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Unreadable(f"{self._host}: {type(error).__name__}: {error}"[:200]) from None

    def _found(self) -> list[tuple[str, str]]:
        """The resources with the power of the machine."""
        members = self._get(f"{ROOT}Chassis").get("Members")
        places = [_link(member) for member in members or [] if isinstance(member, dict)]
        found: dict[str, tuple[str, str]] = {}
        for place in places[:MOST_CHASSIS]:
            if place is None:
                continue
            name = place.rstrip("/").rsplit("/", 1)[-1]
            if self._chassis not in (None, name):
                continue
            chassis = self._get(place)
            for form in ("EnvironmentMetrics", "Power"):
                below = _link(chassis.get(form))
                if below is None:
                    continue
                if power_in(self._get(below), form) is not None:
                    found[name] = (below, form)
                    break
        if not found:
            seen = ", ".join(place.rsplit("/", 1)[-1] for place in places if place) or "none"
            raise Unreadable(f"{self._host} shows power of no chassis (chassis: {seen})")
        if len(found) > 1:
            raise Unreadable(
                f"{self._host} shows power of several chassis; add ?chassis= with one of "
                f"{', '.join(found)}"
            )
        return list(found.values())

    def _get(self, place: str) -> dict[str, Any]:
        if self._connection is None:
            self._connection = (
                http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_SECONDS)
                if self._context is None
                else http.client.HTTPSConnection(
                    self._host, self._port, timeout=ANSWER_SECONDS, context=self._context
                )
            )
        self._connection.request("GET", place, headers=self._headers)
        response = self._connection.getresponse()
        content = response.read(MOST_BYTES + 1)
        if response.status in (401, 403):
            self.close()
            raise Unreadable(
                f"{self._host} asks for a name and password ({response.status}): set {USER} and "
                f"{PASSWORD}, or credentials=FILE"
            )
        # Elsewhere is another host, which was not asked for.
        if response.status != http.client.OK:
            self.close()
            raise Unreadable(f"{self._host}: {place}: status {response.status}")
        if len(content) > MOST_BYTES:
            self.close()
            raise Unreadable(f"{self._host}: {place}: more than {MOST_BYTES >> 20} MiB")
        answer = json.loads(content)
        if not isinstance(answer, dict):
            raise Unreadable(f"{self._host}: {place}: no object")
        return answer


def power_in(resource: dict[str, Any], form: str) -> float | None:
    """Watts in a resource; ``None`` where it has none.

    >>> power_in({"PowerWatts": {"Reading": 374.5}}, "EnvironmentMetrics")
    374.5
    >>> power_in({"PowerControl": [{"PowerConsumedWatts": 344}]}, "Power")
    344.0
    >>> power_in({"PowerControl": [{"PowerConsumedWatts": "69"}]}, "Power")
    69.0
    """
    values: list[Any] = []
    if form == "EnvironmentMetrics":
        reading = resource.get("PowerWatts")
        values = [reading.get("Reading")] if isinstance(reading, dict) else []
    else:
        controls = resource.get("PowerControl")
        # The first is the chassis; others are of parts of it.
        if isinstance(controls, list) and controls and isinstance(controls[0], dict):
            values = [controls[0].get("PowerConsumedWatts")]
    for value in values:
        # Some controllers write numbers as texts.
        watts = None if isinstance(value, bool) else number(value)
        if watts is None and isinstance(value, str):
            with contextlib.suppress(ValueError):
                watts = float(value)
        if watts is not None and 0 < watts < MOST_WATTS:
            return watts
    return None


def _link(of: Any) -> str | None:
    """The place that a link names, on the same host."""
    place = of.get("@odata.id") if isinstance(of, dict) else None
    if isinstance(place, str) and place.startswith(ROOT) and "//" not in place and place.isascii():
        return None if any(c.isspace() or ord(c) < 33 for c in place) else place
    return None


def _credentials(path: str | None) -> str | None:
    """``user:password``, or ``None`` where there are none.

    Raises:
        MalformedValueError: A file that others may read, or that has none.
    """
    if path is None:
        user, password = os.environ.get(USER), os.environ.get(PASSWORD)
        return None if not user or password is None else f"{user}:{password}"
    try:
        # Without O_NONBLOCK the opening of a FIFO waits for somebody to write to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        raise MalformedValueError(f"credentials={path!r}: {error.strerror}") from None
    with os.fdopen(descriptor, encoding="utf-8") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise MalformedValueError(f"credentials={path!r} is no regular file")
        if state.st_mode & 0o077:
            raise MalformedValueError(
                f"credentials={path!r} may be read by others; expected a file of mode 600: chmod "
                f"600 {Path(path)}"
            )
        if state.st_uid not in (0, os.geteuid()):
            raise MalformedValueError(f"credentials={path!r} belongs to another user")
        line = file.readline(1024).rstrip("\r\n")
    if ":" not in line:
        raise MalformedValueError(f"credentials={path!r} does not begin with user:password")
    return line
