"""A smooth quantity over workers, memory and architecture.

Every quantity is smooth in the logarithms of workers and memory: a power law with a bend, and a
small smooth deviation from it (Gaussian process regression).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lithowatt.analysis._observe import Floats

# Prior standard deviations of the coefficients of a log-log surface: what is plausible for any
# program. Slopes: ideal scaling is -1 for times and 0 for totals; a bend, a difference between
# memories that is not the quota's, or an interaction, is small. Held-out errors hardly change
# when one of them is halved or doubled.
WIDE = {
    "level": 3.0,
    "workers": 2.0,
    "bend": 0.5,
    "quota": 2.0,
    "memory": 0.3,
    "arm": 1.0,
    "workers_quota": 0.3,
    "workers_arm": 0.1,
    "quota_arm": 0.1,
}
# Around what a structure predicts already, only small deviations are left.
NARROW = {name: min(sd, 0.1) for name, sd in WIDE.items()} | {"level": 0.2}

#: Of the smooth deviation: its size (log), its reach in log workers and log memory, and the
#: correlation of two architectures.
_DEVIATION, _REACH_WORKERS, _REACH_MEMORY, _ARCHITECTURES = 0.15, 1.0, 1.5, 0.5

#: What a configuration has of its own and its neighbours do not have: fleets of 28 workers may
#: start cold where 24 start warm.
_OWN = 0.02

#: Relative scatter that repetitions do not show: another day, another host.
_DAY = 0.01


class _Axes:
    """Centre and range of the profiled configurations, in logarithms."""

    def __init__(self, points: Floats) -> None:
        self.workers = np.log(points[:, 0])
        self.centre = float(self.workers.mean())
        self.low = float(self.workers.min()) - self.centre
        self.high = float(self.workers.max()) - self.centre
        self.memory = float(np.log(points[:, 1]).mean())
        self.arm = float(points[:, 2].mean())

    def features(self, points: Floats, capacity: float) -> dict[str, Floats]:
        workers = np.log(points[:, 0]) - self.centre
        memory = np.log(points[:, 1]) - self.memory
        quota = np.minimum(memory, math.log(capacity) - self.memory)
        arm = points[:, 2] - self.arm
        # Beyond what was profiled a bend goes on as a straight line, not as a parabola.
        inner = np.clip(workers, self.low, self.high)
        bend = inner**2 + 2 * inner * (workers - inner)
        return {
            "level": np.ones_like(workers),
            "workers": workers,
            "bend": bend,
            "quota": quota,
            "memory": memory,
            "arm": arm,
            "workers_quota": workers * quota,
            "workers_arm": workers * arm,
            "quota_arm": quota * arm,
        }


class Surface:
    """Gaussian process regression of the logarithm of one quantity.

    Args:
        points: One row per observation: workers, size of a worker, 1.0 for arm64.
        values: The quantity, above 0.
        errors: Relative standard error of each.
        capacity: Size beyond which more changes little: the vCPUs that a worker can use at most.
        prior: Standard deviations of the coefficients.
        smooth: Size of the smooth deviation.
    """

    def __init__(
        self,
        points: Floats,
        values: Floats,
        errors: Floats,
        capacity: float = 1.0,
        prior: Mapping[str, float] = WIDE,
        smooth: float = _DEVIATION,
    ) -> None:
        self.axes = _Axes(points)
        self.points = points
        self.capacity = capacity
        self.prior = prior
        self.smooth = smooth
        logs = np.log(np.maximum(values, 1e-9))
        self.level = float(logs.mean()) if prior is WIDE else 0.0
        covariance = self._kernel(points, points)
        covariance[np.diag_indices(len(points))] += _DAY**2 + errors**2
        self.inverse = np.linalg.inv(covariance)
        self.weights = self.inverse @ (logs - self.level)

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        one, other = self.axes.features(a, self.capacity), self.axes.features(b, self.capacity)
        kernel: Floats = np.zeros((len(a), len(b)))
        for name, sd in self.prior.items():
            kernel += sd**2 * np.outer(one[name], other[name])
        distance = (np.subtract.outer(one["workers"], other["workers"]) / _REACH_WORKERS) ** 2
        distance += (np.subtract.outer(one["memory"], other["memory"]) / _REACH_MEMORY) ** 2
        alike = np.where(np.equal.outer(a[:, 2], b[:, 2]), 1.0, _ARCHITECTURES)
        kernel += self.smooth**2 * alike * np.exp(-0.5 * distance)
        same = np.all(a[:, None, :] == b[None, :, :], axis=2)
        kernel += _OWN**2 * same
        return kernel

    def log(self, points: Floats) -> Floats:
        """The logarithm of the quantity at these points."""
        result: Floats = self.level + self._kernel(points, self.points) @ self.weights
        return result

    def __call__(self, points: Floats) -> Floats:
        result: Floats = np.exp(self.log(points))
        return result

    def sd(self, points: Floats) -> Floats:
        """Standard deviation of the logarithm at these points."""
        cross = self._kernel(points, self.points)
        own = np.array([self._kernel(p[None], p[None])[0, 0] for p in points])
        variance = own - np.einsum("ij,jk,ik->i", cross, self.inverse, cross)
        result: Floats = np.sqrt(np.maximum(variance, 0.0) + _DAY**2)
        return result
