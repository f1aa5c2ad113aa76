"""What the agent's page shows, each second, and the browsers that it is sent to."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt.errors import AgentError, LithowattError
from lithowatt.meter._meter import EnergyMeter
from lithowatt.top._containers import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lithowatt.agent._calls import Calls
    from lithowatt.meter._reading import Reading

MOST_STREAMS = 16
"""Browsers that are sent events at once."""

MOST_ROWS = 100
"""Containers and pods that are sent."""

SECONDS = 1.0
"""Between two events."""

STALLED_SECONDS = 5.0
"""A browser that takes nothing for so long is left."""

RETRY_SECONDS = 0.05
"""Until the rest of an event is tried again."""

ENDED = b"event: ended\ndata: {}\n\n"
"""The last event that a browser is sent."""

_Three = tuple[float, float | None, float | None]


class Power:
    """The agent's account as watts: what changed between its last two rounds.

    The watts are the account's own, so they sum as its joules do. Their 95 % bands are those that a
    meter beside states of the same counters, for the account has none.
    """

    def __init__(self, ring: str, root: str | None, names: Callable[[], Mapping[str, Any]]) -> None:
        self._ring = _core.Ring(ring, root)
        self._zones = self._ring.header()["zones"]
        self._names = names
        self._spread = _core.workload_spread(root)
        self._meter: EnergyMeter | None = EnergyMeter(
            methods=["counters", "nvml"],
            interval=SECONDS / 2,
            pid=os.getpid(),
            children=False,
            root=root,
            enabled=True,
        )
        self._meter.start()
        self._reading: Reading | None = None
        self._before: dict[str, Any] | None = None
        self._after: dict[str, Any] | None = None
        self._look: dict[str, Any] | None = None

    def close(self) -> None:
        """Ends the meter beside."""
        meter, self._meter = self._meter, None
        if meter is not None:
            with contextlib.suppress(LithowattError):
                meter.stop()

    def state(self) -> dict[str, Any]:
        """The machine, its counters and its containers: W with bands, or a reason."""
        try:
            look = self._ring.look()
        except AgentError as error:
            return {"sample": {"age_s": None, "stale": str(error)}}
        before, self._look = self._look, look
        self._take_round()
        self._take_reading()
        return {
            "sample": {"age_s": look["age"], "stale": None},
            **self._account(),
            "zones": [*self._zone_rows(before, look), *self._gpu_rows()],
        }

    def _take_round(self) -> None:
        found = self._ring.groups()
        if found is None:
            return
        account, rows = found
        if account["round"] == 0 or (self._after and account["round"] == self._after["round"]):
            return
        account["rows"] = {row["id"]: row for row in rows}
        self._before, self._after = self._after, account

    def _take_reading(self) -> None:
        meter = self._meter
        if meter is None:
            return
        with contextlib.suppress(LithowattError):
            meter.stop()
            self._reading = meter.reading
            meter.start()

    def _account(self) -> dict[str, Any]:
        then, now = self._before, self._after
        if then is None or now is None or now["t_ns"] <= then["t_ns"]:
            return {
                "machine": None,
                "reason": "the agent's second round has not ended yet",
                "idle": None,
                "unattributed": None,
                "containers": [],
                "more": 0,
            }
        seconds = (now["t_ns"] - then["t_ns"]) * 1e-9

        def since(key: str) -> float:
            return float(now[key] - then[key]) * 1e-6

        machine, idle = since("machine_uj"), since("idle_uj")
        bands = self._bands(machine, idle, seconds)
        rows = self._rows(then, now)
        # What ended took its joules of all time into `gone`.
        ended = since("gone_uj") - sum(
            row["active_uj"] * 1e-6
            for id_, row in then["rows"].items()
            if row["counted"] and _same(row, now["rows"].get(id_)) is None
        )
        counted = sum(row["joules"] for row in rows if row["counted"])
        parts = [row["joules"] for row in rows]
        parts += [since("rest_uj"), max(0.0, ended), counted]
        busy = now["busy_ns"] - then["busy_ns"]
        *each, rest, gone, inside = self._with_bands(parts, machine, idle, bands, busy)

        def watts(three: _Three) -> list[float | None]:
            return [None if joules is None else joules / seconds for joules in three]

        for row, part in zip(rows, each, strict=True):
            row["watts"] = watts(part)
            row["cpus"] = row.pop("cpu_ns") * 1e-9 / seconds
            del row["joules"]
        rows.sort(key=lambda row: (-row["total"], row["name"]))
        method = self._zones[0]["method"] if self._zones else None
        whole, rested = bands or ((machine, None, None), (idle, None, None))
        return {
            "machine": watts(whole),
            "reason": None,
            "method": method,
            "seconds": seconds,
            "idle": watts(rested),
            "idle_source": _idle_source(now["idle_source"]),
            "attributed": watts(inside),
            "unattributed": watts(rest),
            "ended": watts(gone),
            "containers": rows[:MOST_ROWS],
            "more": max(0, len(rows) - MOST_ROWS),
        }

    def _rows(self, then: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
        names = {group["id"]: group for group in self._names()["groups"]}
        rows = []
        for id_, row in now["rows"].items():
            old = _same(row, then["rows"].get(id_))
            group = names.get(id_)
            rows.append(
                {
                    "id": str(id_),
                    "kind": row["kind"],
                    "counted": row["counted"],
                    "name": place_of(group["cgroup"]).name if group else f"cgroup {id_}",
                    "joules": (row["active_uj"] - (old["active_uj"] if old else 0)) * 1e-6,
                    # CPU time from before the agent knew it is in no round.
                    "cpu_ns": row["cpu_ns"] - old["cpu_ns"] if old else 0,
                    "total": row["active_uj"] * 1e-6,
                }
            )
        return rows

    def _bands(self, machine: float, idle: float, seconds: float) -> tuple[_Three, _Three] | None:
        """The bands that the meter beside has, for these joules."""
        reading = self._reading
        if reading is None or reading.quality == "modelled":
            return None
        whole, rested = reading.machine_estimate, reading.idle_estimate
        if whole is None or rested is None or not whole.value > 0 or not reading.duration > 0:
            return None
        scale = seconds / reading.duration
        return (
            # A counter's error grows with what it counts.
            (machine, machine * whole.low / whole.value, machine * whole.high / whole.value),
            # Two guesses of what is the same power: the band holds both.
            (idle, min(idle, rested.low * scale), max(idle, rested.high * scale)),
        )

    def _with_bands(
        self,
        parts: list[float],
        machine: float,
        idle: float,
        bands: tuple[_Three, _Three] | None,
        busy_ns: float,
    ) -> list[_Three]:
        if bands is None:
            return [(part, None, None) for part in parts]
        active = max(machine - idle, 0.0)
        shares = [part / active if active > 0 else 0.0 for part in parts]
        whole, rested = (
            (v, v if lo is None else lo, v if hi is None else hi) for v, lo, hi in bands
        )
        busy = busy_ns if busy_ns > 0 else None
        made = _core.parts_above_idle(whole, rested, False, shares, busy, False, self._spread)
        return [
            (part, min(part, low), max(part, high))
            for part, (_, low, high) in zip(parts, made, strict=True)
        ]

    def _zone_rows(self, then: dict[str, Any] | None, now: dict[str, Any]) -> list[dict[str, Any]]:
        seconds = (now["t_ns"] - then["t_ns"]) * 1e-9 if then else 0.0
        reading = self._reading
        beside = {zone.name: zone for zone in reading.zones} if reading is not None else {}
        rows = []
        for zone in self._zones:
            name = zone["name"]
            old = then["joules"].get(name) if then else None
            new = now["joules"].get(name)
            other = beside.get(name)
            watts: list[float | None] | None = None
            reason = None
            if new is None:
                reason = (other.reason if other else None) or "the counter could not be read"
            elif old is None or seconds <= 0:
                reason = "the second sample has not come yet"
            elif new <= old and zone["domain"] not in ("uncore", "psys"):
                reason = "the counter stands still"
            else:
                value = (new - old) / seconds
                estimate = other.energy if other else None
                if estimate is not None and estimate.value > 0:
                    low, high = estimate.low / estimate.value, estimate.high / estimate.value
                    watts = [value, value * low, value * high]
                else:
                    watts = [value, None, None]
            rows.append(
                {
                    "name": name,
                    "method": zone["method"],
                    "domain": zone["domain"],
                    "watts": watts,
                    "reason": reason,
                }
            )
        known = {zone["name"] for zone in self._zones}
        for zone in reading.zones if reading is not None else []:
            if (
                zone.energy is None
                and zone.domain != "gpu"
                and zone.name not in known
                and zone.method == self._zones[0]["method"]
            ):
                rows.append(
                    {
                        "name": zone.name,
                        "method": zone.method,
                        "domain": zone.domain,
                        "watts": None,
                        "reason": zone.reason,
                    }
                )
        return rows

    def _gpu_rows(self) -> list[dict[str, Any]]:
        """Each GPU, which the meter beside reads: the agent's account has none."""
        reading = self._reading
        if reading is None or not reading.duration > 0:
            return []
        return [
            {
                "name": zone.name,
                "method": zone.method,
                "domain": zone.domain,
                "watts": zone.energy and [part / reading.duration for part in zone.energy[:3]],
                "reason": zone.reason,
            }
            for zone in reading.zones
            if zone.domain == "gpu"
        ]


def _same(row: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any] | None:
    """The other round's row of this group: the kernel may give the number of one that has ended to
    another, which has another beginning."""
    return other if other is not None and other["since_ns"] == row["since_ns"] else None


def _idle_source(number: int) -> str | None:
    return _core.IDLE_SOURCES.get(number)


class Live:
    """Sends the state to browsers as server-sent events, from one thread.

    Nobody is waited for: a browser that has not taken all of an event yet gets the rest of it and
    misses the events in between, and one that takes nothing for `STALLED_SECONDS` is left. While
    none is there nothing is read.
    """

    def __init__(self, about: Mapping[str, Any], calls: Calls, power: Callable[[], Power]) -> None:
        self._about = dict(about)
        self._calls = calls
        self._make_power = power
        #: What each is still to be sent of an event, and when it last took something.
        self._streams: dict[socket.socket, tuple[bytes, float]] = {}
        #: Those of them that were sent nothing yet.
        self._new: set[socket.socket] = set()
        self._wake = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="page", daemon=True).start()

    def add(self, stream: socket.socket) -> bool:
        """Sends events to this one from now on, and closes it in the end; False where there are too
        many, or no more events: then it has been told that the agent ended."""
        with self._wake:
            # Nothing is ever waited for.
            if self._closed:
                with contextlib.suppress(OSError):
                    stream.setblocking(False)
                    stream.send(ENDED)
                return False
            if len(self._streams) >= MOST_STREAMS:
                return False
            stream.setblocking(False)
            self._streams[stream] = b"", time.monotonic()
            self._new.add(stream)
            self._wake.notify()
        return True

    @property
    def full(self) -> bool:
        """Whether no more browsers are taken."""
        return len(self._streams) >= MOST_STREAMS

    def _run(self) -> None:
        power: Power | None = None
        event, made = b"", -math.inf
        while True:
            with self._wake:
                if not self._streams and not self._closed:
                    if power is not None:
                        power.close()
                        power = None
                    self._wake.wait()
                if self._closed:
                    break
                new = self._new
                self._new = set()
            # Two looks shortly after each other have no numbers that are worth showing: who comes
            # then is sent what the others were.
            if time.monotonic() - made < SECONDS / 2:
                self._send(event, new)
            else:
                made = time.monotonic()
                try:
                    if power is None:
                        power = self._make_power()
                    state = power.state()
                except Exception as error:  # a page with a reason is better than none
                    state = {"sample": {"age_s": None, "stale": f"{type(error).__name__}: {error}"}}
                now = time.time()
                state.update(agent=self._about, time=now, calls=self._calls.state(now))
                event = _event(state)
                self._send(event)
            self._wait(made + SECONDS)
        if power is not None:
            power.close()

    def _wait(self, until: float) -> None:
        """Until then, until the end, or until somebody comes; sends rests meanwhile."""
        while True:
            with self._wake:
                left = until - time.monotonic()
                # Who comes meanwhile is not kept waiting.
                if left <= 0 or self._closed or self._new:
                    return
                rests = any(rest for rest, _ in self._streams.values())
                self._wake.wait(min(left, RETRY_SECONDS) if rests else left)
            if rests:
                self._send(b"")

    def _send(self, event: bytes, to: set[socket.socket] | None = None) -> None:
        """Sends an event to those who have no rest of an earlier one, and its rest to who has."""
        with self._wake:
            for stream, (rest, since) in list(self._streams.items()):
                if not rest:
                    rest = event if to is None or stream in to else b""
                    since = time.monotonic()
                if not rest:
                    continue
                sent = _sent(stream, rest)
                if sent:
                    since = time.monotonic()
                if sent is None or time.monotonic() - since > STALLED_SECONDS:
                    del self._streams[stream]
                    self._new.discard(stream)
                    stream.close()
                else:
                    self._streams[stream] = rest[sent:], since

    def close(self) -> None:
        """Tells the browsers that the agent ends, and leaves them."""
        with self._wake:
            self._closed = True
            streams, self._streams = self._streams, {}
            self._wake.notify()
        for stream, (rest, _) in streams.items():
            _sent(stream, rest + ENDED)
            stream.close()


def _event(state: dict[str, Any]) -> bytes:
    # Half of a surrogate pair becomes what JSON writes for it.
    text = json.dumps(state, ensure_ascii=False)
    return f"data: {text}\n\n".encode(errors="backslashreplace")


def _sent(stream: socket.socket, data: bytes) -> int | None:
    """How much of it the kernel took at once, ``None`` where the browser has gone."""
    try:
        return stream.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return None
