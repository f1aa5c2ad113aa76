"""What a DAG run used, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def dag_energy(futures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Joules of each stage of a DAG run, and of all of them.

    Args:
        futures: What `DAGExecutor.execute` returned: a StageFuture by stage id.

    Returns:
        By stage id, and for all calls together under `total`: `calls`, `calls_with_energy`,
        `energy` (J, `None` with `energy_reason` where a call has none or two definitions meet),
        `energy_known` (J of the calls that have one), `energy_marginal` and `energy_amortised`
        (J), and how many calls have which `energy_quality`, `energy_method`, `energy_definition`,
        `energy_idle_source` and `energy_warnings`. What the client and Lithops use between the
        calls is in none of them.

    Raises:
        ValueError: A stage is called `total`.

    Example:
        >>> futures = executor.execute()  # doctest: +SKIP
        >>> for stage, used in dag_energy(futures).items():  # doctest: +SKIP
        ...     print(stage, used["calls"], used["energy"])
    """
    if "total" in futures:
        raise ValueError("a stage is called 'total', which is the key of the sum")
    calls = {stage: list(future.get_timings()) for stage, future in futures.items()}
    result = {stage: _used(some) for stage, some in calls.items()}
    result["total"] = _used(call for some in calls.values() for call in some)
    return result


def _used(calls: Iterable[Any]) -> dict[str, Any]:
    from lithowatt.profiles._sidecar import energies

    listed = list(calls)
    return {"calls": len(listed), **energies(listed)}
