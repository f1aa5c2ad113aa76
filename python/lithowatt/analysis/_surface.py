"""A smooth quantity over workers, memory and architecture.

Every quantity is smooth in the logarithms of workers and memory: a power law with a bend, and a
small smooth deviation from it (Gaussian process regression).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lithowatt.analysis._matrices import applied, inverse, product
from lithowatt.profiles._runs import Floats

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

#: What a configuration has and its neighbours do not have: fleets of 28 workers may
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
        self.errors = errors
        self.logs = np.log(np.maximum(values, 1e-9))
        self.level = float(self.logs.mean()) if prior is WIDE else 0.0
        covariance = self._kernel(points, points)
        covariance[np.diag_indices(len(points))] += _DAY**2 + errors**2
        self.inverse = inverse(covariance)
        self.weights = applied(self.inverse, self.logs - self.level)

    def _features(self, points: Floats) -> Floats:
        """Each feature times its prior standard deviation, a column a feature."""
        found = self.axes.features(points, self.capacity)
        return np.stack([sd * found[name] for name, sd in self.prior.items()], axis=1)

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        kernel = product(self._features(a), self._features(b).T)
        logs_a, logs_b = np.log(a[:, :2]), np.log(b[:, :2])
        distance = (np.subtract.outer(logs_a[:, 0], logs_b[:, 0]) / _REACH_WORKERS) ** 2
        distance += (np.subtract.outer(logs_a[:, 1], logs_b[:, 1]) / _REACH_MEMORY) ** 2
        alike = np.where(np.equal.outer(a[:, 2], b[:, 2]), 1.0, _ARCHITECTURES)
        kernel += self.smooth**2 * alike * np.exp(-0.5 * distance)
        same = np.all(a[:, None, :] == b[None, :, :], axis=2)
        kernel += _OWN**2 * same
        return kernel

    def log(self, points: Floats) -> Floats:
        """The logarithm of the quantity at these points."""
        result: Floats = self.level + applied(self._kernel(points, self.points), self.weights)
        return result

    def __call__(self, points: Floats) -> Floats:
        result: Floats = np.exp(self.log(points))
        return result

    def sd(self, points: Floats) -> Floats:
        """Standard deviation of the logarithm at these points."""
        cross = self._kernel(points, self.points)
        own = (self._features(points) ** 2).sum(axis=1) + self.smooth**2 + _OWN**2
        variance = own - np.einsum("ij,ij->i", product(cross, self.inverse), cross)
        result: Floats = np.sqrt(np.maximum(variance, 0.0) + _DAY**2)
        return result

    def without_each(self, targets: Floats | None = None) -> tuple[Floats, Floats]:
        """What it says at each of its points without that point: the quantity and `sd`.

        In closed form, from the inverse of the covariance (Rasmussen and Williams, Gaussian
        Processes for Machine Learning, 5.4.2): nothing is refitted. Exact but for what all points
        share: the level, and where the axes begin and end.

        Args:
            targets: Logarithms to be fitted to, where they change with the point that is left
                out: a column for each of these.
        """
        variance = 1 / np.diag(self.inverse)
        if targets is None:
            logs = self.logs - self.weights * variance
        else:
            # What a column holds for the point that is left out cancels.
            weights = np.einsum("ij,ji->i", self.inverse, targets - self.level)
            logs = np.diag(targets) - weights * variance
        # The variance is of a value that was observed; what it says of the quantity has no error.
        spread: Floats = np.sqrt(np.maximum(variance - self.errors**2, _DAY**2))
        return np.asarray(np.exp(logs)), spread

    def all_without_each(self) -> Floats:
        """What it says at all its points without one of them: a column for the one left out."""
        kernel = self._kernel(self.points, self.points)
        # Without a point its weight is 0, and those of the others make up for it.
        less = product(kernel, self.inverse) * (self.weights / np.diag(self.inverse))
        result: Floats = np.exp(self.log(self.points)[:, None] - less)
        return result
