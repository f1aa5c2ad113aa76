"""An estimate from the client, for calls whose worker had no lithowatt.

All that is known then is how long the call and its phases took, what was asked
for, and on which backend it ran; not how busy the processor was. So the best
estimate supposes one busy vCPU while the function computed and the band goes
from none to all. It is marked `modelled`, with method `model:client`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lithowatt.profiles._values import finite

if TYPE_CHECKING:
    from lithowatt import PowerModel

#: `energy_method` of such an estimate.
METHOD = "model:client"

#: Backends whose sandboxes exist for one function, as a meter in them would find out: their idle
#: power is the call's. Everything else is a machine, whose idle power is nobody's.
FUNCTION_SANDBOXES = frozenset(
    {
        "aws_lambda",
        "gcp_functions",
        "gcp_cloudrun",
        "azure_functions",
        "azure_containers",
        "aliyun_fc",
    }
)

#: `energy_warnings` of it.
NO_WHEEL = "no lithowatt in the worker: an estimate of the client from times alone"


class Place(NamedTuple):
    """Where a stage ran, as far as the client knows.

    Attributes:
        backend: Lithops' backend, e.g. `localhost`, `aws_lambda`, `k8s`.
        architecture: `x86_64` or `arm64` where the configuration names it.
        memory_mb: Memory asked for, MiB; None if unknown.
        cpu: vCPUs asked for; None if unknown.
    """

    backend: str | None
    architecture: str | None = None
    memory_mb: float | None = None
    cpu: float | None = None


def place_of(executor: Any, resources: Any) -> Place:
    """The place of a stage: from the executor's configuration and the stage's resources."""
    config = getattr(executor, "config", None)
    config = config if isinstance(config, Mapping) else {}
    backend = getattr(executor, "backend", None)
    if not isinstance(backend, str):
        lithops = config.get("lithops")
        backend = lithops.get("backend") if isinstance(lithops, Mapping) else None
    section = config.get(backend) if isinstance(backend, str) else None
    architecture = section.get("architecture") if isinstance(section, Mapping) else None
    return Place(
        backend if isinstance(backend, str) else None,
        architecture if isinstance(architecture, str) else None,
        _positive(getattr(resources, "memory", None)),
        _positive(getattr(resources, "cpu", None)),
    )


def estimate(times: Any, stats: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The energy columns of one call, J; an empty dict where its length is unknown.

    Args:
        times: FunctionTimes with `read`, `compute`, `write` in s.
        stats: Lithops' own stats of the call.
        place: Where it ran.
    """
    phases = [_positive(getattr(times, name, None)) or 0.0 for name in ("read", "compute", "write")]
    seconds = (
        _positive(stats.get("worker_func_exec_time"))
        or _positive(math.fsum(phases))
        or _positive(stats.get("worker_exec_time"))
    )
    if seconds is None:
        return {}
    busy_seconds = min(phases[1] or seconds, seconds)
    model, vcpus, gib = _model(place)
    rest, one, full = (
        model.share_watts(vcpus, busy, gib) for busy in (0.0, min(1.0, vcpus), vcpus)
    )
    active = one.active.value * busy_seconds
    amortised = rest.total.value * seconds + active
    definition = _definition(place)
    if definition == "amortised":
        energy, low, high = amortised, rest.total.low * seconds, full.total.high * seconds
    else:
        energy, low, high = active, 0.0, full.active.high * seconds
    return {
        "energy": energy,
        "energy_low": min(low, energy),
        "energy_high": max(high, energy),
        "energy_quality": "modelled",
        "energy_method": METHOD,
        "energy_definition": definition,
        "energy_marginal": active,
        "energy_amortised": amortised,
        "energy_idle_source": "modelled",
        "energy_warnings": NO_WHEEL,
        "measurement_energy": "null, null, null, null",
    }


def _definition(place: Place) -> str:
    """Of the calls' energies there, as the workers' meters would choose it."""
    asked = os.environ.get("ENERGY_DEFINITION", "").strip().lower()
    if asked in ("marginal", "amortised"):
        return asked
    return "amortised" if place.backend in FUNCTION_SANDBOXES else "marginal"


def _model(place: Place) -> tuple[PowerModel, float, float]:
    """The power model, and the vCPUs and the memory (GiB) of the call's surroundings."""
    from lithowatt import PowerModel, _core

    if place.backend == "localhost":
        gib = _core.surroundings()["memory_gib"]
        return PowerModel.for_machine(), float(os.cpu_count() or 1), gib or 0.0
    if place.backend == "aws_lambda":
        memory = place.memory_mb or _core.LAMBDA_MB_PER_VCPU
        model = PowerModel.for_lambda(round(memory), place.architecture or "x86_64")
        return model, _core.lambda_vcpus(memory), memory / 1024
    # A container of a machine that nobody here has seen: the class default. Memory that nobody
    # asked for is not counted.
    return PowerModel.for_cpu("unknown"), place.cpu or 1.0, (place.memory_mb or 0.0) / 1024


def _positive(value: Any) -> float | None:
    number = finite(value)
    return number if number is not None and number > 0 else None
