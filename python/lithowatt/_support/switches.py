"""Settings of the environment that are read for every call; `environment_variables` has all."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Values of ENERGY_MONITORING_ENABLED that switch metering off. The `.pth`
#: module has its own copy, since it may import nothing of the package.
OFF = ("false", "0", "no", "off")


def enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves metering on (unset: on).

    Read for every call, since Lithops sets a job's `extra_env` only then.
    """
    return environment.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in OFF


def stats_form(environment: Mapping[str, str] = os.environ) -> str:
    """What ENERGY_STATS asks for: `compact`, `essential`, or `full` for anything else.

    Read for every call, as above.
    """
    form = environment.get("ENERGY_STATS", "").strip().lower()
    return form if form in ("compact", "essential") else "full"
