"""``MetricsCollector``: sums of what was logged, kept while a program runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lithowatt._support.process import ForkSafeLock
from lithowatt.report._executions import METRICS, Total, execution

__all__ = ["MetricsCollector"]

#: Where entries go whose stage or backend is new when there are `most` already.
OTHERS = "(others)"


class MetricsCollector:
    """Sums of entries, by stage and by backend.

    It keeps sums and no entries, so that its memory does not grow with their number. Several
    threads may use it, and a process that was forked meanwhile goes on with what it inherited.

    Args:
        most: Different stages, and different backends, that are kept apart; what comes after them
            is ``(others)``.

    Raises:
        ValueError: ``most`` is no whole number of 1 or more.

    Example:
        >>> collector = MetricsCollector()
        >>> for joules in (1.0, 3.0):
        ...     metrics = {"energy_consumption": joules, "energy_low": 0.0, "energy_high": 6.0}
        ...     collector.collect({"stage": "map", "backend": "k8s", "energy_metrics": metrics})
        >>> collector.summary()["by_stage"]["map"]["mean_joules"]
        2.0
        >>> collector.summary()["total"]["joules_high"]
        12.0
    """

    def __init__(self, most: int = 1000) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"most must be a whole number of 1 or more, not {most!r:.80}")
        self._most = most
        self._total = Total()
        self._stages: dict[str, Total] = {}
        self._backends: dict[str, Total] = {}
        self._lock = ForkSafeLock()

    def collect(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry, as `EnhancedEnergyLogger.log_energy_execution` returns it.

        Args:
            entry: With ``stage``, ``backend`` and ``energy_metrics``. One without energy is counted
                with its reason.

        Raises:
            TypeError: It is no mapping.
        """
        if not isinstance(entry, Mapping):
            raise TypeError(f"entry must be a mapping, not {type(entry).__name__}")
        metrics = entry.get(METRICS)
        one = execution(metrics if isinstance(metrics, Mapping) else {})
        stage, backend = str(entry.get("stage")), str(entry.get("backend"))
        with self._lock.here():
            self._total.add(one)
            self._of(self._stages, stage).add(one)
            self._of(self._backends, backend).add(one)

    def _of(self, totals: dict[str, Total], name: str) -> Total:
        if name not in totals and len(totals) >= self._most:
            name = OTHERS
        return totals.setdefault(name, Total())

    def summary(self) -> dict[str, Any]:
        """The sums so far: ``total``, ``by_stage`` and ``by_backend``, each with the same keys.

        ``executions``, ``measured``, ``not_measured`` and ``reasons`` count; ``joules`` and
        ``mean_joules`` have their 95 % band in ``_low`` and ``_high``; ``sd_joules`` is the scatter
        between executions. Energies are in J, times in s. What is not known is ``None``, with a
        ``reason`` where there are no joules.
        """
        with self._lock.here():
            return {
                "total": self._total.as_dict(),
                "by_stage": {name: one.as_dict() for name, one in self._stages.items()},
                "by_backend": {name: one.as_dict() for name, one in self._backends.items()},
            }

    def __reduce__(self) -> tuple[Any, ...]:
        # What another process collects is its own.
        return type(self), (self._most,)
