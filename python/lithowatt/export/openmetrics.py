"""The OpenMetrics text format, version 1.0: of the agent's state, and of finished calls.

Calls are gauges and no counters: a batch of them is over when it is told of, and the sum of the
next batch may be lower. `push` sends them to a Prometheus Pushgateway.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from lithowatt._support.harmless import described
from lithowatt._support.install import pip_install
from lithowatt._support.text import encodable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from lithowatt.agent._gpus import GpuTotal
    from lithowatt.agent._references import Total
    from lithowatt.export import Source
    from lithowatt.export._rows import Energy

__all__ = ["CONTENT_TYPE", "push", "text", "write"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

PUSH_SECONDS = 10.0
"""How long a push waits for the gateway by default."""


class _Sample(NamedTuple):
    """A value of a family.

    Attributes:
        labels: Of it alone.
        value: Finite.
        created: When its counter began, s since 1970; ``None`` where that is not known.
    """

    labels: Mapping[str, str]
    value: float
    created: float | None = None


class _Family(NamedTuple):
    """A metric family.

    Attributes:
        name: Without the suffix of its kind.
        kind: ``counter``, ``gauge`` or ``info``.
        unit: The end of its name, or nothing.
        text: Its help.
        samples: Its values.
    """

    name: str
    kind: str
    unit: str
    text: str
    samples: Iterable[_Sample]


def _rendered(families: Iterable[_Family], common: Mapping[str, str]) -> str:
    lines: list[str] = []
    for name, kind, unit, help_, samples in families:
        lines.append(f"# TYPE {name} {kind}")
        if unit:
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {_escaped(help_)}")
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        for labels, value, created in samples:
            shown = _labels({**labels, **common})
            lines.append(f"{name}{suffix}{shown} {value!r}")
            if created is not None:
                lines.append(f"{name}_created{shown} {created:.3f}")
    lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return encodable(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


# --- the agent -------------------------------------------------------------------------------


class Since(NamedTuple):
    """When the agent's counters began, s since 1970.

    Attributes:
        agent: Those of its process.
        totals: Those of the node and its parts: of the first ring that the totals go on from.
        groups: Those of containers and pods, by the id of their row.
    """

    agent: float
    totals: float
    groups: Mapping[int, float]


def openmetrics(
    snapshot: Mapping[str, Any],
    version: str,
    since: Since | None = None,
    references: Iterable[Total] = (),
    gpus: Iterable[GpuTotal] = (),
) -> str:
    """The text of a scrape (OpenMetrics 1.0). Energies in J, times in s, all since the agent's
    ring began, but for the machine's counters, which are as the kernel has them. With `since`
    ``_created`` says when it began.

    ``node`` = ``idle`` + ``rest`` + ``gone`` + the sum over pods and over containers that are in
    no pod (``pod_uid=""``).
    """
    node = {"node": snapshot["node"]} if snapshot["node"] else {}
    families = _of_agent(snapshot, version, since)
    began = None if since is None else since.agent
    beside = chain(_of_gpus(gpus, began), _of_references(references, began))
    return _rendered(chain(families, beside), node)


def _of_gpus(gpus: Iterable[GpuTotal], began: float | None) -> Iterable[_Family]:
    """The GPUs of the machine; nothing where there are none."""
    samples = [_Sample({"gpu": gpu.name, "method": gpu.method}, gpu.joules, began) for gpu in gpus]
    if samples:
        yield _Family(
            "lithowatt_gpu_energy_joules",
            "counter",
            "joules",
            "Each GPU since the agent began. No other family but the whole machine's holds it.",
            samples,
        )


def _of_references(references: Iterable[Total], began: float | None) -> Iterable[_Family]:
    """Meters of the whole machine; nothing where there are none."""
    totals = list(references)
    if not totals:
        return
    labels = [{"reference": total.name, "covers": total.covers} for total in totals]
    yield _Family(
        "lithowatt_machine_reference_joules",
        "counter",
        "joules",
        "The whole machine by a meter outside of its processor. It holds what all other families "
        "count, to compare with: do not add it to them.",
        [_Sample(label, total.joules, began) for label, total in zip(labels, totals, strict=True)],
    )
    yield _Family(
        "lithowatt_machine_reference_unknown_seconds",
        "counter",
        "seconds",
        "Time in which that meter did not show the machine's power: its joules lack it.",
        [_Sample(label, total.unknown, began) for label, total in zip(labels, totals, strict=True)],
    )


def _of_agent(snapshot: Mapping[str, Any], version: str, since: Since | None) -> Iterable[_Family]:
    totals = None if since is None else since.totals
    began = None if since is None else since.agent

    def joules(name: str, text: str, samples: Iterable[_Sample]) -> _Family:
        return _Family(f"lithowatt_{name}_energy_joules", "counter", "joules", text, samples)

    def seconds(name: str, text: str, samples: Iterable[_Sample]) -> _Family:
        return _Family(f"lithowatt_{name}_cpu_seconds", "counter", "seconds", text, samples)

    about = {"version": version, "layout": str(snapshot["layout"])}
    about["idle_source"] = snapshot["idle_source"]
    yield _Family("lithowatt_agent", "info", "", "The agent.", [_Sample(about, 1)])
    yield joules(
        "machine",
        "Energy by counter since its zero; psys holds packages, packages hold core and uncore.",
        [
            _Sample(
                {
                    "method": zone["method"],
                    "domain": zone["domain"],
                    "package": str(zone["package"]),
                    "zone": zone["name"],
                },
                # Without a beginning: it was not at zero when the ring began.
                zone["joules"],
            )
            for zone in snapshot["zones"]
            if zone["readable"]
        ],
    )
    for name, text in (
        ("node", "Packages and DRAM."),
        ("idle", "What the machine would have used at rest."),
        ("rest", "Above idle, in no container."),
        ("gone", "Above idle, in containers that ended."),
    ):
        joules_of = snapshot["machine_joules" if name == "node" else f"{name}_joules"]
        yield joules(name, text, [_Sample({}, joules_of, totals)])
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
    of_groups = {} if since is None else since.groups
    for name, groups in (("container", containers), ("pod", pods)):
        yield joules(
            name,
            f"Above idle, by {name}.",
            [
                _Sample(labels, group["joules"], of_groups.get(group["id"]))
                for labels, group in groups
            ],
        )
        # A clock of the kernel's: it began with the group, not with the row.
        yield seconds(
            name,
            f"CPU time of everything in the {name}.",
            [_Sample(labels, group["cpu_seconds"]) for labels, group in groups],
        )
        started = [(labels, group) for labels, group in groups if group.get("start_seconds")]
        for what, unit, text in (
            (
                "start_energy",
                "joules",
                "Above idle, in {}: part of its other joules, not to add.",
            ),
            ("start", "seconds", "How much of {} has passed."),
        ):
            if started:
                yield _Family(
                    f"lithowatt_{name}_{what}_{unit}",
                    "gauge",
                    unit,
                    text.format(f"the {name}'s first 10 s"),
                    [_Sample(labels, group[f"start_{unit}"]) for labels, group in started],
                )
    guests = snapshot.get("guests")
    if guests:
        # They are in the rest, or in the containers that they run in; each begins with the agent.
        yield joules(
            "guest",
            "Above idle, by virtual machine.",
            [_Sample({"guest": name}, part, began) for name, part in guests.items()],
        )
    busy = _Sample({}, snapshot["busy_seconds"], totals)
    yield seconds("machine_busy", "CPU time used, all CPUs.", [busy])
    own = _Sample({}, snapshot["cpu_seconds"], began)
    yield seconds("agent", "CPU time of the agent's sampler.", [own])
    for name, text in (
        ("samples", "Samples taken."),
        ("late", "Samples more than a period late."),
    ):
        sample = _Sample({}, snapshot[name], began)
        yield _Family(f"lithowatt_agent_{name}", "counter", "", text, [sample])


# --- calls -----------------------------------------------------------------------------------


def text(source: Source) -> str:
    """Finished calls as OpenMetrics text: for each function and each way in which its energy was
    obtained, what all its calls came to together.

    Families, all of them gauges: ``lithowatt_function_energy_joules`` with the ends of its 95 %
    band, ``lithowatt_function_energy_low_joules`` and ``…_high_joules`` (from the sum of the lower
    to the sum of the upper ends; missing where a call has none),
    ``lithowatt_function_duration_seconds``, ``lithowatt_function_cpu_seconds`` and
    ``lithowatt_function_calls``; where all these calls know their part of GPUs, which is in no
    other family, ``lithowatt_function_gpu_energy_joules``. Labels: ``function``,
    ``quality`` (``none`` for calls without energy, of which there are no joules), ``method``,
    ``definition``.

    Args:
        source: As for `lithowatt.export.write`.

    Raises:
        TypeError: The source is none of these.
        MalformedValueError: A file holds something else than JSON objects.
        OSError: A file cannot be read.

    Example:
        >>> stats = {"label": "f", "energy_consumption": 2.5, "energy_quality": "attributed",
        ...     "energy_method": "rapl+cputime", "energy_definition": "marginal"}
        >>> [line for line in text([stats, stats]).splitlines() if "energy_joules{" in line]
        ... # doctest: +ELLIPSIS
        ['lithowatt_function_energy_joules{function="f",quality="attributed",...} 5.0']
    """
    return _rendered(_of_calls(source)[0], {})


def write(source: Source, path: str | os.PathLike[str]) -> int:
    """Writes `text` to a file, whole or not at all; the number of calls.

    The textfile collector of node_exporter reads such a file, if it ends in ``.prom``.

    Raises:
        TypeError: The source is none of those that `lithowatt.export.write` takes.
        MalformedValueError: A file holds something else than JSON objects.
        OSError: A file cannot be read or written.
    """
    from lithowatt._support.files import write_atomically

    families, calls = _of_calls(source)
    write_atomically(path, _rendered(families, {}))
    return calls


def push(
    source: Source,
    gateway: str,
    *,
    job: str = "lithowatt",
    grouping: Mapping[str, str] | None = None,
    timeout: float = PUSH_SECONDS,
    replace: bool = True,
    handler: Callable[..., Any] | None = None,
) -> int:
    """Sends finished calls to a Prometheus Pushgateway, as `text` has them; the number of calls.

    A gateway keeps what it was sent until it is deleted there: Prometheus sees the last push of
    each ``job`` and ``grouping`` at every scrape. It is for jobs that end; what runs on is scraped.

    Args:
        source: As for `lithowatt.export.write`.
        gateway: ``HOST:PORT`` or a URL.
        job: The label ``job`` of everything that is pushed.
        grouping: More labels of the group, such as ``{"instance": "node-7"}``.
        timeout: Seconds for the connection and for each wait for an answer.
        replace: Takes the place of all that the group had. ``False`` replaces metrics of the same
            names only.
        handler: Sends the request, as prometheus-client takes it, for passwords and certificates.

    Raises:
        TypeError: The source is none of these, or a number is no number.
        ValueError: `timeout` is not above 0.
        MalformedValueError: A file holds something else than JSON objects.
        ImportError: prometheus-client is missing, with the command that installs it.
        OSError: The gateway does not answer in time, or refuses.
    """
    from http.client import HTTPException

    from lithowatt._support.arguments import number, shown

    if number("timeout", timeout) <= 0:
        raise ValueError(f"timeout must be above 0 s, not {shown(timeout)}")
    try:
        from prometheus_client import CollectorRegistry, push_to_gateway, pushadd_to_gateway
        from prometheus_client.core import GaugeMetricFamily
    except ImportError as error:
        raise ImportError(f"push needs this: {pip_install('prometheus-client')}") from error
    families, calls = _of_calls(source)

    class Collector:
        def collect(self) -> Iterable[Any]:
            for name, _, _, help_, samples in families:
                # Not by its unit, which that format has no line for.
                made = GaugeMetricFamily(name, help_)
                for labels, value, _created in samples:
                    sent = {label: encodable(text) for label, text in labels.items()}
                    made.add_sample(name, labels=sent, value=value)
                yield made

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    more: dict[str, Any] = {} if handler is None else {"handler": handler}
    send = push_to_gateway if replace else pushadd_to_gateway
    group = {label: encodable(str(text)) for label, text in (grouping or {}).items()}
    try:
        send(gateway, encodable(job), registry, grouping_key=group or None, timeout=timeout, **more)
    except HTTPException as error:
        if isinstance(error, OSError):
            raise
        raise OSError(f"{gateway} does not answer as a gateway: {described(error)}") from error
    return calls


def _of_calls(source: Source) -> tuple[list[_Family], int]:
    """The families of calls, and how many there are."""
    from lithowatt.estimate import number
    from lithowatt.export._rows import energy_of, rows_of

    together: dict[tuple[str, str, str, str], list[Energy]] = {}
    gpus: dict[tuple[str, str, str, str], list[float | None]] = {}
    calls = 0
    for row in rows_of(source):
        calls += 1
        one = energy_of(row)
        key = (one.function, one.quality, one.method, one.definition)
        together.setdefault(key, []).append(one)
        # Not the whole GPUs' joules, which are the same for all calls that ran beside each other.
        gpus.setdefault(key, []).append(number(row.get("gpu_energy_attributed")))

    def summed(
        name: str,
        unit: str,
        text: str,
        values: Mapping[tuple[str, str, str, str], Iterable[float | None]],
    ) -> _Family:
        samples = []
        for key, group in values.items():
            labels = dict(zip(("function", "quality", "method", "definition"), key, strict=True))
            all_of_them = list(group)
            found = [one for one in all_of_them if one is not None]
            # A sum over some of them would pass for one over all.
            if len(found) == len(all_of_them):
                samples.append(_Sample(labels, math.fsum(found)))
        return _Family(f"lithowatt_function_{name}", "gauge", unit, text, samples)

    def family(name: str, unit: str, text: str, value: Callable[[Energy], float | None]) -> _Family:
        return summed(name, unit, text, {key: map(value, g) for key, g in together.items()})

    told = "These calls' part of the GPUs' energy, above the GPUs' rest; in no other family."
    of_gpus = summed("gpu_energy_joules", "joules", told, gpus)
    return [
        family("energy_joules", "joules", "Energy of these calls together.", lambda c: c.joules),
        family(
            "energy_low_joules",
            "joules",
            "Lower end of the 95 % band of their energy.",
            lambda c: c.band and c.band[0],
        ),
        family(
            "energy_high_joules",
            "joules",
            "Upper end of the 95 % band of their energy.",
            lambda c: c.band and c.band[1],
        ),
        family(
            "duration_seconds",
            "seconds",
            "Lengths of their windows together.",
            lambda c: c.seconds,
        ),
        family("cpu_seconds", "seconds", "CPU time of these calls.", lambda c: c.cpu_seconds),
        family("calls", "", "How many calls these are.", lambda _: 1.0),
        # Few machines have GPUs.
        *([of_gpus] if of_gpus.samples else []),
    ], calls
