"""The questions of a reviewer, answered from the data where the data can.

The eight principles are those of Papadopoulos et al., "Methodological Principles for Reproducible
Performance Evaluation in Cloud Computing", IEEE Transactions on Software Engineering 47 (2021),
https://doi.org/10.1109/TSE.2019.2927908.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lithowatt._support.text import counted

MET, PART, NOT, UNKNOWN = "met", "in part", "not met", "not known"

#: Fewer runs of a configuration say little of their scatter.
FEW = 5


@dataclass(frozen=True)
class Check:
    """One principle.

    Attributes:
        principle: Its name.
        verdict: `met`, `in part`, `not met` or `not known`.
        because: The number behind it.
    """

    principle: str
    verdict: str
    because: str


def checklist(found: Mapping[str, Any]) -> list[Check]:
    """The principles, in their own order.

    Args:
        found: The results, as `Results.as_json` gives them.
    """
    return [
        _repeated(found),
        _coverage(found),
        _setup(found),
        Check(
            "Open access artifact",
            UNKNOWN,
            f"{counted(len(found['inputs']), 'file')} with SHA-256 below; --bundle makes an "
            "archive that can be published, and only you know whether it was",
        ),
        _probabilistic(found),
        _evaluation(found),
        _units(found),
        _cost(found),
    ]


def _repeated(found: Mapping[str, Any]) -> Check:
    name = "Repeated experiments"
    rows = [row for row in found["stats"]["configurations"] if row["repetitions"]["used"]]
    used = [row["repetitions"]["used"] for row in rows]
    if not used:
        return Check(name, UNKNOWN, "no configuration")
    few = sum(1 for one in used if one < FEW)
    sessions = {row["sessions"] for row in rows}
    days = (
        "sessions are not recorded"
        if None in sessions
        else f"{min(sessions)} to {max(sessions)} sessions"
    )
    text = f"{min(used)} to {max(used)} runs a configuration, {few} with fewer than {FEW}; {days}"
    if max(used) < 2:
        return Check(name, NOT, text)
    good = few == 0 and None not in sessions and min(sessions) > 1
    return Check(name, MET if good else PART, text)


def _coverage(found: Mapping[str, Any]) -> Check:
    rows = found["stats"]["configurations"]
    counts = {
        "workload": len({(row["workload"], row["stage"]) for row in rows}),
        "memory size": len({row["memory_mb"] for row in rows}),
        "number of workers": len({row["workers_requested"] for row in rows}),
        "architecture": len({row["architecture"] for row in rows} - {None}),
    }
    parts = ", ".join(
        f"{many} numbers of workers"
        if what == "number of workers" and many != 1
        else counted(many, what)
        for what, many in counts.items()
    )
    varied = sum(1 for many in counts.values() if many > 1)
    verdict = MET if varied == len(counts) else PART if varied else NOT
    return Check("Workload and configuration coverage", verdict, parts)


def _setup(found: Mapping[str, Any]) -> Check:
    missing = [one for one in found["lint"]["findings"] if one["rule"] == "missing-metadata"]
    name = "Experimental setup description"
    if not missing:
        return Check(name, MET, "each file says when, where and with which versions it was made")
    lacks = sorted({what for one in missing for what in one["evidence"].get("missing", ())})
    text = f"{counted(len({one['file'] for one in missing}), 'file')} without {', '.join(lacks)}"
    return Check(name, NOT if len(missing) >= len(found["inputs"]) else PART, text)


def _probabilistic(found: Mapping[str, Any]) -> Check:
    rows = found["stats"]["configurations"]
    known = sum(1 for row in rows if (row["metrics"]["time_s"] or {}).get("t"))
    text = f"{known} of {counted(len(rows), 'configuration')} with a 95 % interval, SD, p95"
    verdict = MET if rows and known == len(rows) else PART if known else NOT
    return Check("Probabilistic result description", verdict, text)


def _evaluation(found: Mapping[str, Any]) -> Check:
    cells = found["compare"]["cells"]
    drift = [one for one in found["warnings"] if one["code"] == "drift"]
    name = "Statistical evaluation"
    if not cells:
        return Check(name, UNKNOWN, "nothing is compared: no pair is equal in all but one thing")
    tested = sum(1 for cell in cells if cell["welch"]["p_holm"] is not None)
    text = f"{counted(tested, 'Welch test')}, adjusted by Holm"
    if drift:
        return Check(name, PART, f"{text}; repetitions drift, so that they are not independent")
    return Check(name, MET if tested == len(cells) else PART, text)


def _units(found: Mapping[str, Any]) -> Check:
    mistakes = {one["file"] for one in found["lint"]["findings"] if one["rule"] == "unit-mistake"}
    if mistakes:
        text = f"a column of {counted(len(mistakes), 'file')} is in another unit than it says"
        return Check("Measurement units", PART, f"{text}; this report names each unit")
    return Check("Measurement units", MET, "every value has its unit")


def _cost(found: Mapping[str, Any]) -> Check:
    rows = found["stats"]["configurations"]
    priced = sum(1 for row in rows if (row["metrics"]["cost_usd"] or {}).get("n"))
    settings = found["settings"]
    if not priced:
        return Check("Cost", NOT, "no configuration has dollars")
    text = (
        f"{priced} of {counted(len(rows), 'configuration')} with dollars; prices of "
        f"{settings['region']}, {settings['price_date']}"
    )
    if settings["price"] is not None:
        text += f"; elsewhere {settings['price']['vcpu_hour']:g} USD a vCPU hour, as given"
    missing = [one for one in found["lint"]["findings"] if one["rule"] == "missing-metadata"]
    if any("region" in one["evidence"].get("missing", ()) for one in missing):
        return Check("Cost", PART, f"{text}; the data do not say in which region they ran")
    return Check("Cost", MET if priced == len(rows) else PART, text)
