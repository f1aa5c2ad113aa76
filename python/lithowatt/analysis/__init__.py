"""What profiles show: predictions of configurations, recommendations, one workload on backends.

Most public names are those of `lithowatt.profiles`. `MultiBackendEnergyAnalyzer` runs Lithops jobs
and so lives with the adapter (`lithowatt.lithops.backends`): it is loaded when it is asked for, and
nothing else here knows of it.
"""

from __future__ import annotations

from lithowatt._support import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lithowatt.analysis.backends import correlate_backend_results
    from lithowatt.lithops.backends._analyzer import MultiBackendEnergyAnalyzer

__all__ = ["MultiBackendEnergyAnalyzer", "correlate_backend_results"]

__getattr__ = attach(
    __name__,
    globals(),
    {
        "MultiBackendEnergyAnalyzer": "lithowatt.lithops.backends._analyzer",
        "correlate_backend_results": "backends",
    },
)
