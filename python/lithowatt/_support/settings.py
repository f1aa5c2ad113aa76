"""Settings that come from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Values of ENERGY_MONITORING_ENABLED that switch metering off. The `.pth`
#: module has its own copy, since it may import nothing of the package.
OFF = ("false", "0", "no", "off")


def enabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves metering on (unset: on).

    Read for every call, since Lithops sets a job's `extra_env` only then.
    """
    return environment.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in OFF
