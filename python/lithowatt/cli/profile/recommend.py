"""``lithowatt profile recommend``: the best configuration within bounds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lithowatt._support.text import aligned
from lithowatt.cli.profile._numbers import whole_numbers

if TYPE_CHECKING:
    from lithowatt.analysis._predict import PerformanceModel
    from lithowatt.analysis._prediction import Band, HeldOut, Prediction
    from lithowatt.analysis._recommend import Recommendation
    from lithowatt.analysis.platforms import Price

_OBJECTIVES = ("energy", "cost", "edp", "time")


def add_verb(verbs: Any) -> None:
    """Adds ``recommend`` to the verbs of ``lithowatt profile``."""
    recommend = verbs.add_parser(
        "recommend",
        help="the configuration that takes the fewest joules, dollars or seconds",
        description="Learns from profiles of one stage what a configuration (workers, memory, "
        "architecture) takes, and ranks those that keep the bounds. Give all profiles of the "
        "stage that there are. Exit code 1: no configuration keeps the bounds.",
    )
    recommend.add_argument("profile", nargs="+", metavar="PROFILE", help="<stage>.json")
    recommend.add_argument(
        "--minimise",
        "--minimize",
        choices=_OBJECTIVES,
        default="energy",
        help="joules, dollars, joules × seconds, or seconds (default: %(default)s)",
    )
    bounds = recommend.add_argument_group("bounds")
    bounds.add_argument("--latency", type=_positive, metavar="S", help="most seconds of the stage")
    bounds.add_argument("--cost", type=_positive, metavar="USD", help="most dollars of a run")
    bounds.add_argument("--energy", type=_positive, metavar="J", help="most joules of a run")
    space = recommend.add_argument_group("candidates (default: all between profiled ones)")
    space.add_argument("--workers", type=whole_numbers, metavar="N,N-N", help="e.g. 1-28 or 4,8")
    space.add_argument("--memory", type=whole_numbers, metavar="MB,MB", help="e.g. 512,1024")
    space.add_argument(
        "--architecture", metavar="ARCH", help="x86_64 or arm64; the profiles say it by default"
    )
    space.add_argument(
        "--extrapolate", action="store_true", help="beyond what was profiled, too: wider bands"
    )
    place = recommend.add_argument_group("where it ran (default: the profiles say it)")
    place.add_argument(
        "--platform",
        metavar="NAME",
        help="of all the profiles: kubernetes, localhost, server or aws-lambda",
    )
    place.add_argument("--region", default="us-east-1", help="of a provider's prices (%(default)s)")
    place.add_argument(
        "--vcpu-hour",
        type=_positive,
        metavar="USD",
        help="price of a vCPU for an hour, where a provider's table has no price",
    )
    place.add_argument(
        "--gib-hour", type=_positive, metavar="USD", help="price of a GiB of memory for an hour"
    )
    place.add_argument(
        "--vcpus",
        type=_positive,
        metavar="N",
        help="vCPUs that a worker is billed for (default: those that the profiles record)",
    )
    recommend.add_argument(
        "--top", type=_count, default=5, metavar="N", help="how many to show (default: 5)"
    )
    recommend.add_argument("--json", action="store_true", help="as JSON: all of them")
    recommend.add_argument(
        "--check",
        action="store_true",
        help="also predict what was profiled from the rest, and show the error",
    )
    recommend.set_defaults(func=_recommend)


# --- arguments ----------------------------------------------------------------


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


# --- recommend ----------------------------------------------------------------


def _recommend(arguments: argparse.Namespace) -> int:
    # NumPy and the core are loaded for those who ask.
    from lithowatt.analysis._predict import PerformanceModel
    from lithowatt.analysis._recommend import recommend
    from lithowatt.errors import LithowattError

    try:
        model = PerformanceModel(
            arguments.profile,
            arguments.architecture,
            arguments.region,
            arguments.platform,
            _price(arguments),
        )
        found = recommend(
            model,
            minimise=arguments.minimise,
            latency=arguments.latency,
            cost=arguments.cost,
            energy=arguments.energy,
            workers=arguments.workers,
            memory=arguments.memory,
            architecture=arguments.architecture,
            extrapolate=arguments.extrapolate,
        )
        checks = _checks(model) if arguments.check else None
    except LithowattError:
        raise  # reported by the caller
    except ValueError as error:
        print(f"lithowatt: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(_as_json(model, found, checks), indent=2, allow_nan=False))
    else:
        _print(model, found, arguments.top)
        if checks is not None:
            _print_checks(checks)
    return 0 if found.ranked else 1


def _price(arguments: argparse.Namespace) -> Price | None:
    """The price that the options give, if they give one."""
    from lithowatt.analysis.platforms import Price

    given = (arguments.vcpu_hour, arguments.gib_hour, arguments.vcpus)
    if given == (None, None, None):
        return None
    if arguments.vcpus is not None and arguments.vcpu_hour is None:
        raise ValueError("--vcpus needs --vcpu-hour: it is what that price is multiplied with")
    return Price(arguments.vcpu_hour or 0.0, arguments.gib_hour or 0.0, arguments.vcpus)


def _checks(model: PerformanceModel) -> dict[str, list[HeldOut] | str]:
    checks: dict[str, list[HeldOut] | str] = {}
    for what in ("configuration", "memory"):
        try:
            checks[what] = model.check(what)
        except ValueError as error:
            checks[what] = str(error)
    return checks


def _print(model: PerformanceModel, found: Recommendation, top: int) -> None:
    if found.ranked:
        shown: Sequence[Prediction] = found.ranked[:top]
    else:
        print(found.reason)
        shown = [found.closest] if found.closest is not None else []
        print()
        print("closest:")
    dollars = ("USD",) if model.no_price is None else ()
    rows = [("workers", "MB", "architecture", "s", "CPU s", "J", *dollars, "J·s", "")]
    for one in shown:
        rows.append(
            (
                str(one.workers),
                _memory(one),
                one.architecture,
                _cell(one.time),
                _cell(one.cpu_seconds),
                _cell(one.energy_fit),
                *((_cell(one.cost),) if dollars else ()),
                _cell(one.edp),
                "profiled" if one.profiled else "predicted" if one.inside else "extrapolated",
            )
        )
    right = {0, 1, *range(3, len(rows[0]) - 1)}
    print("\n".join(aligned(rows, right)))
    print()
    if shown and shown[0].energy is not None and shown[0].energy_quality is not None:
        low, high = shown[0].energy.low, shown[0].energy.high
        print(
            f"joules are {shown[0].energy_quality}; with all that is unsure, the first uses "
            f"{low:.3g} to {high:.3g} J"
        )
    print(f"{len(found.ranked)} of {found.candidates} candidates keep the bounds; bands are 95 %")
    if model.region is not None:
        print(f"dollars are AWS Lambda's prices of {model.region}")
    print(f"learned from {len(model.observations)} configurations: {model.structure}")
    for warning in found.warnings:
        print(f"note: {warning}")


def _memory(one: Prediction) -> str:
    asked = f"{one.memory_mb:g}"
    return asked if one.memory_given_mb is None else f"{asked} ({one.memory_given_mb:g} given)"


def _cell(band: Band | None) -> str:
    """A value with its band: in percent where both sides are the same, else as low..high."""
    if band is None:
        return "unknown"
    if band.value <= 0:
        return "0"
    up, down = (band.high / band.value - 1) * 100, (1 - band.low / band.value) * 100
    if round(up) == round(down):
        return f"{band.value:.3g} ± {max(round(up), 1)} %"
    return f"{band.value:.3g} ({band.low:.2g}..{band.high:.2g})"


def _print_checks(checks: dict[str, list[HeldOut] | str]) -> None:
    import numpy as np

    print()
    print("held out: what was profiled, predicted from the rest, in % of the actual value")
    rows = [("left out", "of", "median", "90 %", "worst", "in its band")]
    for what, found in checks.items():
        if isinstance(found, str):
            print(f"{what}: {found}")
            continue
        for quantity in ("time", "cpu_seconds", "energy", "cost"):
            some = [one for one in found if one.quantity == quantity]
            if not some:
                continue
            errors = np.array([abs(one.error) * 100 for one in some])
            rows.append(
                (
                    what,
                    quantity.replace("_", " "),
                    f"{np.median(errors):.1f}",
                    f"{np.percentile(errors, 90):.1f}",
                    f"{errors.max():.1f}",
                    f"{sum(one.covered for one in some)} of {len(some)}",
                )
            )
    print("\n".join(aligned(rows, right=range(2, 6))))


# --- JSON ---------------------------------------------------------------------


def _as_json(
    model: PerformanceModel,
    found: Recommendation,
    checks: dict[str, list[HeldOut] | str] | None,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "minimise": found.minimise,
        "bounds": found.bounds,
        "feasible": bool(found.ranked),
        "reason": found.reason,
        "best": _prediction(found.best),
        "closest": _prediction(found.closest),
        "ranked": [_prediction(one) for one in found.ranked],
        "candidates": found.candidates,
        "learned_from": len(model.observations),
        "structure": model.structure,
        "platform": model.platform.name,
        "region": model.region,
        "warnings": list(found.warnings),
    }
    if checks is not None:
        report["held_out"] = {
            what: (
                {"reason": some}
                if isinstance(some, str)
                else [
                    {
                        "workers": one.workers,
                        "memory_mb": one.memory_mb,
                        "architecture": one.architecture,
                        "quantity": one.quantity,
                        "actual": one.actual,
                        "predicted": one.predicted.value,
                        "low": one.predicted.low,
                        "high": one.predicted.high,
                    }
                    for one in some
                ]
            )
            for what, some in checks.items()
        }
    return report


def _prediction(one: Prediction | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "workers": one.workers,
        "memory_mb": one.memory_mb,
        "memory_given_mb": one.memory_given_mb,
        "vcpus": one.vcpus,
        "architecture": one.architecture,
        "source": "profiled" if one.profiled else "predicted" if one.inside else "extrapolated",
        "time_s": _band(one.time),
        "cpu_seconds": _band(one.cpu_seconds),
        "energy_j": _band(one.energy),
        "energy_fit_j": _band(one.energy_fit),
        "energy_quality": one.energy_quality,
        "energy_reason": one.energy_reason,
        "cost_usd": _band(one.cost),
        "cost_reason": one.cost_reason,
        "edp_js": _band(one.edp),
        "worker_time_s": _band(one.worker_time),
        "phases_s": {phase: _band(band) for phase, band in one.phases.items()},
    }


def _band(band: Band | None) -> dict[str, float] | None:
    return None if band is None else {"value": band.value, "low": band.low, "high": band.high}
