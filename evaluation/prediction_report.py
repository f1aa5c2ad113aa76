"""How well predictions and recommendations do on measured profiles: prints a table.

    python evaluation/prediction_report.py [--json]

Each of twelve profiles (two workloads on AWS Lambda, three memories, two architectures) is
predicted configuration by configuration, each time from all others; whole memories are left out,
too; and recommendations are compared with the truth and with two plain rules. The profiles are
not part of the repository: `LITHOWATT_DATA` names the folder that holds `profiles/`, by default
`../shared/data` beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lithowatt import PowerModel
from lithowatt.cost import lambda_cost
from lithowatt.profiles import HeldOut, PerformanceModel, read_profile

DATA = Path(
    os.environ.get("LITHOWATT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
)
QUANTITIES = ("time", "cpu_seconds", "energy", "cost")
WORKLOADS = ("pi", "titanic")

#: What the compared rule takes for the watts of a processor, and for dollars per GB-s.
RULE_WATTS = {"arm64": 100.0, "x86_64": 166.0}
RULE_PRICE = {"arm64": 0.0000133334, "x86_64": 0.0000166667}

Place = tuple[int, float, str]


def profiles() -> dict[str, Path]:
    """The measured profiles by name; empty where the data are not there."""
    return {p.parent.name: p for p in sorted((DATA / "profiles").glob("*/*.json"))}


def architecture(name: str) -> str:
    return "arm64" if name.endswith("_arm") else "x86_64"


# --- the truth, straight from the files ---------------------------------------


class Truth(NamedTuple):
    """One configuration: the means over all its repetitions."""

    time: float
    cpu_seconds: float
    energy: float
    cost: float
    compute: float
    rule_joules: float

    @property
    def edp(self) -> float:
        return self.energy * self.time


def truth(path: Path, arch: str) -> dict[Place, Truth]:
    """What happened, without any of the code that learns from it."""
    found = {}
    for key, metrics in read_profile(path).items():
        columns = {
            name: [np.array(repetition, dtype=float) for repetition in metrics[name]]
            for name in (
                "cold_start", "read", "compute", "write", "worker_time_execution", "TDP",
                "cpu_cores_logical",
            )
        }  # fmt: skip
        model = PowerModel.for_lambda(int(key.memory_mb), arch)
        vcpus, gib = key.memory_mb / 1769, key.memory_mb / 1024
        times, cpus, joules, dollars = [], [], [], []
        for index, worker in enumerate(columns["worker_time_execution"]):
            phases = [columns[p][index] for p in ("cold_start", "read", "compute", "write")]
            times.append(np.sum(phases, axis=0).max())
            cpu = columns["TDP"][index] * columns["cpu_cores_logical"][index]
            cpus.append(cpu.sum())
            joules.append(
                sum(
                    t * model.share_watts(vcpus, min(c / t, vcpus), gib).total.value
                    for t, c in zip(worker, cpu, strict=True)
                )
            )
            dollars.append(sum(lambda_cost(t, key.memory_mb, arch) for t in worker))
        found[key.workers, float(key.memory_mb), arch] = Truth(
            float(np.mean(times)),
            float(np.mean(cpus)),
            float(np.mean(joules)),
            float(np.mean(dollars)),
            float(np.mean(np.concatenate(columns["compute"]))),
            float(np.mean(np.concatenate(columns["TDP"])) * RULE_WATTS[arch]),
        )
    return found


# --- held-out predictions -----------------------------------------------------


def errors(held_out: Iterable[HeldOut], actual: dict[Place, Truth], quantity: str) -> np.ndarray:
    """Absolute errors in % of the truth."""
    return np.array(
        [
            abs(h.predicted.value / getattr(actual[h[:3]], quantity) - 1) * 100
            for h in held_out
            if h.quantity == quantity and h[:3] in actual
        ]
    )


def baseline(actual: dict[Place, Truth]) -> dict[str, np.ndarray]:
    """Errors of a / x + b, x = workers × memory, by least squares without the one left out.

    So FlexExecutor's analytic model predicts times; other quantities are given the same form.
    """
    found: dict[str, list[float]] = {quantity: [] for quantity in QUANTITIES}
    for place, value in actual.items():
        rest = [p for p in actual if p != place]
        matrix = np.array([[1 / (p[0] * p[1]), 1.0] for p in rest])
        for quantity in QUANTITIES:
            known = np.array([getattr(actual[p], quantity) for p in rest])
            (a, b), *_ = np.linalg.lstsq(matrix, known, rcond=None)
            predicted = a / (place[0] * place[1]) + b
            found[quantity].append(abs(predicted / getattr(value, quantity) - 1) * 100)
    return {quantity: np.array(values) for quantity, values in found.items()}


# --- recommendations ----------------------------------------------------------


class Outcome(NamedTuple):
    """One recommendation against the truth.

    Attributes:
        regret: What it really takes over what the truly best takes, less 1.
        kept: Whether the latency bound was really kept, within 5 %.
    """

    regret: float
    kept: bool

    @property
    def good(self) -> bool:
        return self.kept and self.regret <= 0.05


def choices(
    actual: dict[Place, Truth],
    objective: str,
    time_of: Callable[[Place], float],
    value_of: Callable[[Place], float],
) -> list[Outcome]:
    """Outcomes under no bound and five latency bounds, of a rule that knows two numbers."""
    times = sorted(t.time for t in actual.values())
    bounds = [math.inf, *(float(np.quantile(times, q)) for q in (0.1, 0.25, 0.5, 0.75, 0.9))]
    found = []
    for bound in bounds:
        feasible = [p for p in actual if time_of(p) <= bound]
        chosen = min(feasible, key=value_of) if feasible else min(actual, key=time_of)
        possible = [getattr(t, objective) for t in actual.values() if t.time <= bound]
        regret = getattr(actual[chosen], objective) / min(possible) - 1
        found.append(Outcome(regret, actual[chosen].time <= 1.05 * bound))
    return found


def our_choices(
    actual: dict[Place, Truth], held_out: list[HeldOut], objective: str
) -> list[Outcome]:
    """Each configuration judged by what was predicted of it without it."""
    predicted = {(h[:3], h.quantity): h.predicted.value for h in held_out}

    def value(place: Place) -> float:
        if objective == "edp":
            return predicted[place, "energy"] * predicted[place, "time"]
        return predicted[place, objective]

    return choices(actual, objective, lambda p: predicted[p, "time"], value)


def seen_choices(
    actual: dict[Place, Truth], model: PerformanceModel, objective: str
) -> list[Outcome]:
    """As in use: each configuration judged with its own data seen, too."""
    places = list(actual)
    predicted = dict(zip(places, model.predict_all(places), strict=True))

    def value(place: Place) -> float:
        band = getattr(predicted[place], objective)
        return band.value

    return choices(actual, objective, lambda p: predicted[p].time.value, value)


def rule_choices(actual: dict[Place, Truth], objective: str) -> list[Outcome]:
    """The rules of the profiles' own analysis, which see each configuration's own data.

    "Energy" is TDP × CPU share × time of one worker; dollars are mean compute time × workers × GB
    × price; time is mean compute time.
    """

    def value(place: Place) -> float:
        workers, memory, arch = place
        seen = actual[place]
        energy = seen.rule_joules
        dollars = seen.compute * workers * memory / 1024 * RULE_PRICE[arch]
        return {
            "energy": energy,
            "cost": dollars,
            "time": seen.compute,
            "edp": energy * seen.compute,
        }[objective]

    return choices(actual, objective, lambda p: actual[p].compute, value)


# --- all of it ----------------------------------------------------------------


def summary(values: np.ndarray) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "p90": float(np.percentile(values, 90)),
        "worst": float(values.max()),
        "count": len(values),
    }


def evaluate() -> dict:
    """Every figure of the report."""
    files = profiles()
    actual = {name: truth(path, architecture(name)) for name, path in files.items()}
    report: dict = {"profiles": {}, "overall": {}, "memory": {}, "coverage": {}, "choices": {}}

    together = {
        workload: PerformanceModel([p for n, p in files.items() if n.startswith(workload)])
        for workload in WORKLOADS
    }
    held = {workload: model.check() for workload, model in together.items()}
    single = {name: PerformanceModel(path) for name, path in files.items()}
    alone = {name: model.check() for name, model in single.items()}
    report["structure"] = {workload: model.structure for workload, model in together.items()}

    pooled: dict[str, dict[str, list]] = {
        kind: {q: [] for q in QUANTITIES} for kind in ("together", "alone", "a/x+b")
    }
    for name, known in actual.items():
        workload = name.split("_")[0]
        plain = baseline(known)
        row = {}
        for quantity in QUANTITIES:
            for kind, values in (
                ("together", errors(held[workload], known, quantity)),
                ("alone", errors(alone[name], known, quantity)),
                ("a/x+b", plain[quantity]),
            ):
                pooled[kind][quantity].append(values)
                row[f"{kind} {quantity}"] = float(np.median(values))
        report["profiles"][name] = row
    for kind, quantities in pooled.items():
        for quantity, parts in quantities.items():
            report["overall"][f"{kind} {quantity}"] = summary(np.concatenate(parts))

    for quantity in QUANTITIES:
        parts = []
        for workload, model in together.items():
            everything = {
                place: value
                for name, known in actual.items()
                if name.startswith(workload)
                for place, value in known.items()
            }
            found = errors(model.check("memory"), everything, quantity)
            parts.append(found)
            report["memory"][f"{workload} {quantity}"] = summary(found)
        report["memory"][f"all {quantity}"] = summary(np.concatenate(parts))
        inside = [h.covered for found in held.values() for h in found if h.quantity == quantity]
        report["coverage"][quantity] = [sum(inside), len(inside)]

    spaces = dict(actual)  # each profile by itself, and each workload as a whole
    held_by_space = dict(alone)
    for workload in WORKLOADS:
        spaces[workload] = {
            place: value
            for name, known in actual.items()
            if name.startswith(workload)
            for place, value in known.items()
        }
        held_by_space[workload] = held[workload]
    for objective in ("energy", "cost", "edp", "time"):
        ours, seen, rules = [], [], []
        for name, known in spaces.items():
            ours += our_choices(known, held_by_space[name], objective)
            seen += seen_choices(known, {**single, **together}[name], objective)
            rules += rule_choices(known, objective)
        for who, outcomes in (("held-out", ours), ("seen", seen), ("rule", rules)):
            regrets = np.array([o.regret for o in outcomes])
            report["choices"][f"{who} {objective}"] = {
                "good": sum(o.good for o in outcomes),
                "kept": sum(o.kept for o in outcomes),
                "count": len(outcomes),
                "median": float(np.median(regrets)) * 100,
                "worst": float(regrets.max()) * 100,
            }
    return report


def show(report: dict) -> None:
    print("Leaving one configuration out: median absolute error, % of the truth")
    print("(from all profiles of the workload / from the profile alone / a/x+b of the profile)\n")
    print(f"{'profile':24}" + "".join(f"{q.replace('_', ' '):>22}" for q in QUANTITIES))

    def cells(value: Callable[[str, str], float]) -> str:
        text = ""
        for quantity in QUANTITIES:
            three = [value(kind, quantity) for kind in ("together", "alone", "a/x+b")]
            cell = " / ".join(f"{v:.1f}" for v in three)
            text += f"{cell:>22}"
        return text

    for name, row in report["profiles"].items():
        print(f"{name:24}" + cells(lambda kind, quantity, row=row: row[f"{kind} {quantity}"]))
    for which in ("median", "p90", "worst"):
        print(
            f"{'all, ' + which:24}"
            + cells(
                lambda kind, quantity, which=which: report["overall"][f"{kind} {quantity}"][which]
            )
        )
    inside = ["{} of {}".format(*report["coverage"][quantity]) for quantity in QUANTITIES]
    print(f"{'all, inside 95 % band':24}" + "".join(f"{cell:>22}" for cell in inside))
    print("\nLeaving a whole memory out (median / 90 % / worst)\n")
    for group in (*WORKLOADS, "all"):
        text = f"{group:24}"
        for quantity in QUANTITIES:
            s = report["memory"][f"{group} {quantity}"]
            cell = " / ".join(f"{s[which]:.1f}" for which in ("median", "p90", "worst"))
            text += f"{cell:>22}"
        print(text)
    print("\nRecommendations under no bound and five latency bounds, 14 sets of candidates\n")
    print(
        f"{'objective':12}{'judged by':12}{'within 5 % of best':>20}{'bound kept':>12}"
        f"{'median':>10}{'worst':>10}"
    )
    for key, s in report["choices"].items():
        who, objective = key.split()
        good, kept = (f"{s[which]} of {s['count']}" for which in ("good", "kept"))
        print(f"{objective:12}{who:12}{good:>20}{kept:>12}{s['median']:>9.1f}%{s['worst']:>9.0f}%")
    print("\nHow times depend on memory:", report["structure"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not profiles():
        print(f"no profiles in {DATA / 'profiles'}: set LITHOWATT_DATA", file=sys.stderr)
        return 1
    report = evaluate()
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
