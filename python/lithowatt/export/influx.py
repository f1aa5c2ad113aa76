"""InfluxDB's line protocol, version 2: a line a call, times in ns."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from lithowatt._support.arguments import shown
from lithowatt._support.files import write_atomically
from lithowatt._support.text import encodable
from lithowatt.errors import MalformedValueError
from lithowatt.estimate import number
from lithowatt.export._rows import TIME, known, rows_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from lithowatt.export import Source

__all__ = ["MEASUREMENT", "TAGS", "ring_text", "text", "write"]

MEASUREMENT = "lithowatt_call"
"""What the lines are of by default."""

TAGS = {
    "label": "function",
    "job_id": "job",
    "call_id": "call",
    "stage": "stage",
    "backend": "backend",
    "energy_quality": "quality",
    "energy_method": "method",
    "energy_definition": "definition",
}
"""Keys that are tags and no fields, with the tags' names: what one groups by."""

_MOST_INTEGER = 2**63 - 1

_SPECIAL = re.compile(r"([,= ])")
"""What is escaped in a tag and in a key."""

_OF_MEASUREMENT = re.compile(r"([, ])")

_ESCAPE = r"\\\1"


def text(
    source: Source,
    *,
    measurement: str = MEASUREMENT,
    tags: Mapping[str, str] | None = None,
    time_ns: int | None = None,
) -> str:
    r"""Calls as lines: tags of `TAGS`, and a field for every other value, by its plain key.

    What is ``None``, NaN, infinite or a dict has no field; lists become one text, parts separated
    by `` | ``. Whole numbers are integers (``i``), but for keys whose values are fractions, which
    the server would refuse as another type. A line's time is the call's end where that is
    known: of a `Reading` of this machine, and of stats of Lithops; else it is the time of the
    export, a nanosecond later for each line, so that none takes another's place.

    Control characters become spaces, line breaks among them. Parsers disagree on a backslash in a
    name or a tag, where ``\`` becomes ``/``.

    Args:
        source: As for `lithowatt.export.write`.
        measurement: Before the tags.
        tags: More tags, of all lines, such as ``{"host": "node-7"}``.
        time_ns: The time of calls that have none of their own, ns since 1970.

    Raises:
        TypeError: The source is none of these, or `time_ns` is no whole number.
        ValueError: `measurement` or the name of a tag is empty, or begins with what a line or a
            name must not begin with.
        MalformedValueError: A file holds something else than JSON objects.
        OSError: A file cannot be read.

    Example:
        >>> stats = {"label": "my f", "energy_consumption": 2.5, "energy_schema": 1}
        >>> print(text(stats, time_ns=1_700_000_000_000_000_000), end="")
        lithowatt_call,function=my\ f energy_consumption=2.5,energy_schema=1i 1700000000000000000
    """
    return "".join(_lines(source, measurement, tags or {}, time_ns))


def write(source: Source, path: str | os.PathLike[str]) -> int:
    """Writes `text` to a file, whole or not at all; the number of lines.

    Raises:
        TypeError: The source is none of those that `lithowatt.export.write` takes.
        MalformedValueError: A file holds something else than JSON objects.
        OSError: A file cannot be read or written.
    """
    lines = list(_lines(source, MEASUREMENT, {}, None))
    write_atomically(path, "".join(lines))
    return len(lines)


def ring_text(state: Mapping[str, Any], *, time_ns: int | None = None) -> str:
    """What the node agent's ring holds, as lines: ``lithowatt_machine`` for each counter (J since
    its zero), ``lithowatt_node`` for the machine and its parts (J), ``lithowatt_group`` for each
    container and pod (J above idle, CPU s).

    Args:
        state: What ``lithowatt agent --show --json`` prints, as a dict.
        time_ns: Of the newest sample, ns since 1970; by default now, less the sample's age.

    Raises:
        MalformedValueError: It is no such state.
    """
    try:
        header, now = state["header"], state["now"]
        at = time.time_ns() - round(now["age"] * 1e9) if time_ns is None else time_ns
        node = {"node": header["node"]}
        lines = [
            _line(
                "lithowatt_machine",
                {
                    **node,
                    "method": zone["method"],
                    "domain": zone["domain"],
                    "package": zone["package"],
                    "zone": zone["name"],
                },
                {"joules": now["joules"].get(zone["name"])},
                at,
            )
            for zone in header["zones"]
        ]
        account = state["account"]
        if account is not None and account["round"]:
            parts = {
                f"{name}_joules": account[f"{name}_uj"] * 1e-6
                for name in ("machine", "idle", "rest", "gone")
            }
            source = {"idle_source": account["idle_source"]}
            lines.append(_line("lithowatt_node", node, {**parts, **source}, at))
        lines += [
            _line(
                "lithowatt_group",
                {**node, "kind": row["kind"], "id": row["id"]},
                {
                    "joules": row["active_uj"] * 1e-6,
                    "cpu_seconds": row["cpu_ns"] * 1e-9,
                    "counted": row["counted"],
                },
                at,
            )
            for row in state["groups"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedValueError(
            f"no state of a ring ({type(error).__name__}: {error}); expected what `lithowatt agent "
            "--show --json` prints"
        ) from None
    return "".join(line for line in lines if line)


def _lines(
    source: Source, measurement: str, tags: Mapping[str, str], time_ns: int | None
) -> Iterator[str]:
    if time_ns is not None and (isinstance(time_ns, bool) or not isinstance(time_ns, int)):
        raise TypeError(f"time_ns must be a whole number of ns, not {shown(time_ns)}")
    _checked("measurement", measurement)
    for name in tags:
        _checked("the name of a tag", name)
    at = time.time_ns() if time_ns is None else time_ns
    for row in rows_of(source):
        own = {tag: row[key] for key, tag in TAGS.items() if row.get(key) is not None}
        fields = {
            key: float(value) if isinstance(value, int) and _is_fraction(key) else value
            for key, value in row.items()
            if key not in TAGS and key != TIME
        }
        stamp = row.get(TIME)
        line = _line(measurement, {**tags, **own}, fields, at if stamp is None else stamp)
        if line and stamp is None:
            at += 1
        if line:
            yield line


def _is_fraction(key: str) -> bool:
    found = known(key)
    return found is not None and found.type == "float"


def _line(
    measurement: str, tags: Mapping[str, Any], fields: Mapping[str, Any], time_ns: int
) -> str:
    """A line; nothing where no field has a value."""
    values = [
        f"{_SPECIAL.sub(_ESCAPE, name)}={value}"
        for key, found in fields.items()
        if (value := _field(found)) is not None and (name := _plain(key))
    ]
    if not values:
        return ""
    head = _OF_MEASUREMENT.sub(_ESCAPE, _plain(measurement))
    marks = [
        f",{_SPECIAL.sub(_ESCAPE, _plain(tag))}={_SPECIAL.sub(_ESCAPE, value)}"
        for tag, found in sorted(tags.items())
        if found is not None and (value := _plain(str(found)))
    ]
    return f"{head}{''.join(marks)} {','.join(values)} {time_ns}\n"


def _checked(what: str, value: object) -> None:
    # A line that begins with # is a comment, and names with _ are the server's own.
    if not isinstance(value, str) or not (plain := _plain(value)) or plain[0] in "#_":
        raise ValueError(
            f"{what} {shown(value)} cannot be one; expected a text that does not begin with # or _"
        )


def _one_line(value: str) -> str:
    sent = encodable(value)
    return sent if sent.isprintable() else "".join(c if c.isprintable() else " " for c in sent)


def _plain(value: str) -> str:
    """A text that a name or a tag can hold."""
    return _one_line(value).replace("\\", "/").strip()


def _field(value: Any) -> str | None:
    """A field's value, ``None`` where it has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i" if abs(value) <= _MOST_INTEGER else None
    if isinstance(value, (list, tuple)):
        value = " | ".join(map(str, value))
    if isinstance(value, str):
        escaped = _one_line(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    found = number(value)
    return None if found is None else repr(found)
