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

from lithowatt.profiles._values import positive

if TYPE_CHECKING:
    from lithowatt.analysis.platforms import Platform, Share

#: `energy_method` of such an estimate.
METHOD = "model:client"

#: `energy_warnings` of it.
NO_WHEEL = "no lithowatt in the worker: an estimate of the client from times alone"


class Place(NamedTuple):
    """Where a stage ran, as far as the client knows.

    Attributes:
        backend: Lithops' backend, e.g. `localhost`, `k8s`.
        architecture: `x86_64` or `arm64` where the configuration names it.
        memory_mb: Memory asked for, MiB; None if unknown.
        cpu: vCPUs asked for; None if unknown.
    """

    backend: str | None
    architecture: str | None = None
    memory_mb: float | None = None
    cpu: float | None = None


def backend_of(executor: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Lithops' name of an executor's backend, and what the configuration says of it."""
    config = getattr(executor, "config", None)
    config = config if isinstance(config, Mapping) else {}
    backend = getattr(executor, "backend", None)
    if not isinstance(backend, str):
        lithops = config.get("lithops")
        backend = lithops.get("backend") if isinstance(lithops, Mapping) else None
    if not isinstance(backend, str):
        return None, {}
    section = config.get(backend)
    return backend, section if isinstance(section, Mapping) else {}


def place_of(executor: Any, resources: Any) -> Place:
    """The place of a stage: from the executor's configuration and the stage's resources."""
    backend, section = backend_of(executor)
    architecture = section.get("architecture")
    return Place(
        backend,
        architecture if isinstance(architecture, str) else None,
        positive(getattr(resources, "memory", None)),
        positive(getattr(resources, "cpu", None)),
    )


def estimate(times: Any, stats: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The energy columns of one call, J; an empty dict where its length is unknown.

    Args:
        times: FunctionTimes with `read`, `compute`, `write` in s.
        stats: Lithops' own stats of the call.
        place: Where it ran.
    """
    phases = [positive(getattr(times, name, None)) or 0.0 for name in ("read", "compute", "write")]
    seconds = (
        positive(stats.get("worker_func_exec_time"))
        or positive(math.fsum(phases))
        or positive(stats.get("worker_exec_time"))
    )
    if seconds is None:
        return {}
    busy_seconds = min(phases[1] or seconds, seconds)
    platform = _platform(place)
    share = _share(place, platform)
    rest, one, full = (
        share.model.share_watts(share.vcpus, busy, share.memory_gib)
        for busy in (0.0, min(1.0, share.vcpus), share.vcpus)
    )
    active = one.active.value * busy_seconds
    amortised = rest.total.value * seconds + active
    definition = _definition(platform)
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


def _definition(platform: Platform) -> str:
    """Of the calls' energies there, as the workers' meters would choose it."""
    asked = os.environ.get("ENERGY_DEFINITION", "").strip().lower()
    return asked if asked in ("marginal", "amortised") else platform.definition


def _platform(place: Place) -> Platform:
    from lithowatt.analysis.platforms import Localhost, platform_of_backend

    platform = platform_of_backend(place.backend)
    # The client is on that machine.
    return Localhost(here=True) if isinstance(platform, Localhost) else platform


def _share(place: Place, platform: Platform) -> Share:
    """The part of a machine that a call had, as far as the client knows."""
    from lithowatt import PowerModel
    from lithowatt.analysis.platforms import Share, Worker

    memory = place.memory_mb
    if memory is None:
        # What buys one vCPU; where memory buys none, what nobody asked for is not counted.
        memory = 0.0 if platform.most_vcpus is None else platform.memory_of(1.0)
    vcpus = place.cpu or 1.0
    worker = Worker(memory, place.architecture or "x86_64", vcpus)
    # Else a container of a machine that nobody here has seen: the class default.
    return platform.share(worker) or Share(PowerModel.for_cpu("unknown"), vcpus, memory / 1024)
