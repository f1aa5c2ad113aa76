"""The agent's state in the OpenMetrics text format, version 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

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
