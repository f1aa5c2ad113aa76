"""Settings that come from the environment."""

from __future__ import annotations

import os

#: Values of ENERGY_MONITORING_ENABLED that switch metering off. The `.pth`
#: module has its own copy, since it may import nothing of the package.
OFF = ("false", "0", "no", "off")


def enabled() -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves metering on (unset: on).

    Read for every call, since Lithops sets a job's `extra_env` only then.
    """
    return os.environ.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in OFF
