"""``lithowatt cost``: dollars, electricity and CO2e of a Lambda call."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import refusing
from lithowatt._support.text import aligned, terminal_width, wrapped

if TYPE_CHECKING:
    from lithowatt.estimate import Estimate


def add_cli(commands: Any) -> None:
    """Adds ``cost`` to the sub-commands of ``lithowatt``."""
    cost = commands.add_parser(
        "cost",
        help="calculate what a Lambda call costs; with its joules, electricity and CO2e, too",
        description="What AWS bills for Lambda calls, and with --joules what their electricity "
        "costs and emits. Per call where there are several.",
    )
    cost.add_argument("--duration", type=float, required=True, metavar="S", help="of one call, s")
    cost.add_argument(
        "--memory", type=float, required=True, metavar="MB", help="of the function, MB"
    )
    cost.add_argument("--architecture", default="x86_64", help="x86_64 or arm64 (%(default)s)")
    cost.add_argument("--region", default="us-east-1", help="AWS region (%(default)s)")
    cost.add_argument(
        "--requests", type=int, default=1, metavar="N", help="how many calls (%(default)s)"
    )
    cost.add_argument(
        "--init", type=float, default=0.0, metavar="S", help="initialisation of a cold start, s"
    )
    cost.add_argument(
        "--storage", type=float, default=512, metavar="MB", help="ephemeral storage (%(default)s)"
    )
    cost.add_argument(
        "--joules", type=_joules, metavar="J[,LOW,HIGH]", help="of one call, with its band"
    )
    cost.add_argument(
        "--electricity",
        type=float,
        default=None,
        metavar="USD",
        help="price of a kWh (0.10, an assumption)",
    )
    cost.add_argument(
        "--intensity", type=float, metavar="G", help="of the grid, g CO2e per kWh (by region)"
    )
    form = cost.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument(
        "--sources", action="store_true", help="name where prices and factors are from"
    )
    cost.set_defaults(func=_cost)


def _joules(text: str) -> tuple[float, float, float]:
    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) == 1:
        parts *= 3
    if len(parts) != 3 or not 0 <= parts[1] <= parts[0] <= parts[2] < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 12 or 12,8,20: J, low, high")
    return parts[0], parts[1], parts[2]


def _cost(arguments: argparse.Namespace) -> int:
    # The tables are read for those who ask.
    from lithowatt.carbon import _doubt_of_intensity, _intensity, pue, sci
    from lithowatt.cost import ELECTRICITY_USD_PER_KWH, energy_cost, lambda_cost
    from lithowatt.estimate import Estimate

    with refusing():
        bill = lambda_cost(
            arguments.duration,
            arguments.memory,
            arguments.architecture,
            arguments.region,
            arguments.requests,
            init_duration_s=arguments.init,
            storage_mb=arguments.storage,
        )
        report: dict[str, Any] = {
            "region": arguments.region,
            "architecture": arguments.architecture,
            "requests": arguments.requests,
            "total_usd": bill.total,
            "compute_usd": bill.compute,
            "request_usd": bill.request,
            "storage_usd": bill.storage,
            "gb_seconds": bill.gb_seconds,
            "price": bill.source,
        }
        if arguments.joules is not None:
            value, low, high = arguments.joules
            joules = Estimate(value, low, high, "as given")
            price = arguments.electricity
            score = sci(
                joules,
                bill.billed_cold_duration,
                arguments.memory,
                architecture=arguments.architecture,
                region=arguments.region,
                intensity=arguments.intensity,
            )
            report["per_call"] = {
                "energy_j": _parts(joules),
                "electricity_usd": _parts(
                    energy_cost(
                        joules, ELECTRICITY_USD_PER_KWH if price is None else price, pue("aws")
                    )
                ),
                "operational_gco2e": _parts(score.operational),
                "embodied_gco2e": _parts(score.embodied),
                "sci_gco2e": _parts(score.score),
            }
            grams = _intensity(arguments.region, None, arguments.intensity, None, None).value
            if doubt := _doubt_of_intensity(grams):
                # On stderr: grams that may be 1000 times off are doubted without --sources, too.
                print(f"warning: the grid's intensity is {grams:g}, but {doubt}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        _print(report, arguments.sources)
    return 0


def _parts(estimate: Estimate) -> dict[str, Any]:
    return estimate._asdict()


def _usd(value: float) -> str:
    """Dollars without an exponent: a call costs millionths of one."""
    if value == 0:
        return "0 USD"
    digits = max(2, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f} USD"


def _print(report: dict[str, Any], sources: bool) -> None:
    count = report["requests"]
    rows = [("billed", _usd(report["total_usd"]), f"{count} request{'' if count == 1 else 's'}")]
    for part in ("compute", "request", "storage"):
        rows.append((f"  {part}", _usd(report[f"{part}_usd"]), ""))
    names = {
        "energy_j": ("energy", "J"),
        "electricity_usd": ("electricity", "USD"),
        "operational_gco2e": ("operational", "g CO2e"),
        "embodied_gco2e": ("embodied", "g CO2e"),
        "sci_gco2e": ("SCI", "g CO2e per call"),
    }
    notes = [report["price"]]
    for key, part in report.get("per_call", {}).items():
        name, unit = names[key]
        # A plain number has no band.
        band = f"{part['low']:.4g} to {part['high']:.4g}" if part["low"] < part["high"] else ""
        value = _usd(part["value"]) if unit == "USD" else f"{part['value']:.4g} {unit}"
        rows.append((name, value, band))
        if key in ("electricity_usd", "operational_gco2e", "embodied_gco2e"):
            notes.append(f"{name}: {part['source']}")
    print("\n".join(aligned(rows)))
    print()
    for note in notes if sources else notes[:1]:
        print("\n".join(wrapped(note, terminal_width(), "", "  ")))
    if sources:
        return
    if notes[1:]:
        print("--sources lists where the other figures are from")
