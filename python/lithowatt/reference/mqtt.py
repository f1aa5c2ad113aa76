"""A plug that sends what it meters to an MQTT broker.

``mqtt://HOST[:PORT]/TOPIC``, or ``mqtts`` for TLS. The messages are numbers, or JSON in which power
is found by its name, as Shelly (``apower``) and Tasmota (``ENERGY.Power``) write it. It needs the
package ``paho-mqtt``. Name and password come from ``LITHOWATT_MQTT_USER`` and
``LITHOWATT_MQTT_PASSWORD``.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from lithowatt._support.install import pip_install
from lithowatt.errors import MalformedValueError, UnavailableError
from lithowatt.reference._energy import Sensor
from lithowatt.reference._options import options_in
from lithowatt.reference._watch import Reference
from lithowatt.reference.table import ENERGIES, MOST_WATTS, UNITS, words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OPTIONS", "Mqtt", "value_in"]

OPTIONS = {
    "key": "the key of power or energy in a message of JSON, nested ones with dots: ENERGY.Power",
    "unit": "its unit: W (default), kW, Wh or kWh",
    "error": "how far all values may be off together, from 0, in % (default: 2)",
}
"""What may follow the topic, as in ``mqtt://broker/tele/plug/SENSOR?key=ENERGY.Power``."""

USER, PASSWORD = "LITHOWATT_MQTT_USER", "LITHOWATT_MQTT_PASSWORD"

KEYS = ("apower", "power", "act power", "energy power", "switch 0 apower", "watts", "load power")
"""Keys of power in words, the likeliest first."""

CONNECT_SECONDS = 5.0

MOST_BYTES = 65_536

#: Plugs send each second to each ten; what is seen takes its place. An assumption as for files:
#: makers of plugs state 1 to 2 %.
SENSOR = Sensor(
    counts=False, update=5.0, delay=0.5, averaged=0.0, relative=0.02, step=0.1, gap=90.0
)


def value_in(message: bytes, key: str | None) -> float | None:
    """The number in a message; ``None`` where it has none.

    >>> value_in(b"61.5", None), value_in(b'{"ENERGY": {"Power": 14}}', None)
    (61.5, 14.0)
    >>> value_in(b'{"a": {"b": 3}}', "a.b"), value_in(b'{"voltage": 230}', None)
    (3.0, None)
    """
    try:
        content = json.loads(message[:MOST_BYTES])
    except (ValueError, RecursionError):
        return None
    found: dict[str, float] = {}

    def walk(prefix: str, value: Any, depth: int = 0) -> None:
        if isinstance(value, dict) and depth < 8:
            for name, below in value.items():
                walk(f"{prefix}.{name}" if prefix else str(name), below, depth + 1)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix] = float(value)

    walk("", content)
    if key is not None:
        value = found.get(key)
    elif list(found) == [""]:
        value = found[""]
    else:
        named = {words(name): value for name, value in found.items()}
        value = next((named[name] for name in KEYS if name in named), None)
    return value if value is not None and math.isfinite(value) else None


class Mqtt(Reference):
    """The messages of one topic."""

    name = "mqtt"
    covers = "all that is behind the plug, losses of its power supply included"

    def __init__(self, text: str) -> None:
        """``text``: an address, with options after a ``?``.

        Raises:
            MalformedValueError: It is none.
            UnavailableError: The package is not installed.
        """
        super().__init__()
        url = urlsplit(text, allow_fragments=False)
        options = options_in(url.query, OPTIONS, "mqtt")
        self._topic = unquote(url.path.lstrip("/"))
        if not url.hostname or not self._topic:
            raise MalformedValueError(
                f"{text[:80]!r} is no address of a topic; expected mqtt://HOST[:PORT]/TOPIC"
            )
        if url.username is not None:
            raise MalformedValueError(
                f"mqtt: a name in an address is seen by others; expected {USER} and {PASSWORD}"
            )
        if "#" in self._topic or "+" in self._topic:
            raise MalformedValueError(f"mqtt: {self._topic!r} means several topics; expected one")
        self._tls = url.scheme == "mqtts"
        self._host, self._port = url.hostname, url.port or (8883 if self._tls else 1883)
        self._key = options.get("key")
        unit = options.get("unit", "W").lower()
        if unit not in UNITS:
            raise MalformedValueError(f"unit={unit[:20]!r} is not known; expected W or kWh")
        self._scale, self._counts = UNITS[unit], unit in ENERGIES
        try:
            relative = float(options.get("error", 100 * SENSOR.relative)) / 100
        except ValueError:
            relative = -1.0
        if not 0 <= relative < 1:
            raise MalformedValueError(f"error={options['error'][:20]!r} is no part in %")
        self.sensor = SENSOR._replace(
            counts=self._counts, relative=relative, step=self._scale * SENSOR.step
        )
        try:
            import paho.mqtt.client
        except ImportError as error:
            raise UnavailableError(
                f"a reference over MQTT needs paho-mqtt: {pip_install('paho-mqtt')}"
            ) from error
        self._client: paho.mqtt.client.Client | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Connects in the background, until `stop` was called as often."""
        with self._lock:
            if self._pid != os.getpid():
                self._client = None
            if not self._is_first():
                return
        if self._client is not None:
            # Of a window that nobody asked for.
            self._client.disconnect()
            threading.Thread(target=self._client.loop_stop, daemon=True).start()
        self._ending, self._ended = threading.Event(), threading.Event()
        client = self._client = self._made()
        try:
            client.connect_async(self._host, self._port)
            client.loop_start()
        except (OSError, ValueError) as error:
            self.fault(time.monotonic(), f"{self._host}: {error}", False)

    def _made(self) -> Any:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2)
        client.connect_timeout = CONNECT_SECONDS
        user = os.environ.get(USER)
        if user:
            client.username_pw_set(user, os.environ.get(PASSWORD))
        if self._tls:
            client.tls_set()

        def connected(client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
            if code.is_failure:
                self.fault(time.monotonic(), f"{self._host} refuses: {code}", False)
            else:
                client.subscribe(self._topic)

        def arrived(client: Any, _data: Any, message: Any) -> None:
            if message.retain:
                # What the broker kept was true at some time before.
                return
            self.take(time.monotonic(), message.payload)
            if self._ending.is_set():
                self._leave(client)

        def failed(_client: Any, _data: Any) -> None:
            self.fault(time.monotonic(), f"{self._host}:{self._port} cannot be reached", False)

        client.on_connect, client.on_message = connected, arrived
        client.on_connect_fail = failed
        return client

    def take(self, when: float, payload: bytes) -> None:
        """Takes a message that came at ``when`` (s, monotonic)."""
        value = value_in(payload, self._key)
        if value is None or (not self._counts and not 0 <= value * self._scale < MOST_WATTS):
            text = payload[:60].decode("utf-8", "replace")
            self.fault(when, f"{self._topic}: {text!r} has no power; name it: key=NAME", False)
        else:
            self.tell(when, value * self._scale)

    def _leave(self, client: Any) -> None:
        client.disconnect()
        self._ended.set()

    def _known(self) -> tuple[list[tuple[float, float]], list[tuple[float, str, bool]]]:
        client = self._client
        if self._ending.is_set() and client is not None and self._pid == os.getpid():
            if not self._ended.wait(min(2 * self.sensor.update, 10.0)):
                self._leave(client)
            client.loop_stop()
            self._client = None
        with self._lock:
            return list(self._readings), list(self._faults)

    def _update(self, readings: Sequence[tuple[float, float]]) -> float:
        # Each message is a new value.
        if len(readings) < 3:
            return self.sensor.update
        return (readings[-1][0] - readings[0][0]) / (len(readings) - 1)
