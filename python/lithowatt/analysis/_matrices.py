"""Products and inverses of matrices of some hundred rows, each on one thread.

From some size on OpenBLAS divides a product among threads, which wait for each other without
sleeping. Where other programs want the same CPUs, an inverse of 205 rows then takes 70 ms of CPU
time in the place of 2. So matrices are worked on in blocks below that size.
"""

from __future__ import annotations

import numpy as np

from lithowatt.profiles._runs import Floats

#: Multiplications up to which a product stays on its thread.
_ONE_THREAD = 262_144

#: Rows up to which NumPy's own inverse does.
_SMALL = 48


def product(a: Floats, b: Floats) -> Floats:
    """The matrix product of two matrices."""
    found = np.empty((a.shape[0], b.shape[1]))
    wide = max(_ONE_THREAD // max(a.size, 1), 1)
    if wide >= b.shape[1]:
        return np.asarray(a @ b)
    if a.size > _ONE_THREAD:
        half = a.shape[0] // 2
        found[:half], found[half:] = product(a[:half], b), product(a[half:], b)
        return found
    for start in range(0, b.shape[1], wide):
        found[:, start : start + wide] = a @ b[:, start : start + wide]
    return found


def applied(a: Floats, x: Floats) -> Floats:
    """The matrix applied to a vector."""
    found: Floats = np.einsum("ij,j->i", a, x)
    return found


def inverse(a: Floats) -> Floats:
    """The inverse of a symmetric positive definite matrix.

    Raises:
        numpy.linalg.LinAlgError: It is not positive definite.
    """
    root = _inverse_root(a)
    return product(np.ascontiguousarray(root.T), root)


def _inverse_root(a: Floats) -> Floats:
    """The inverse of the lower triangular L with L L' = a, by halves (Cholesky)."""
    n = len(a)
    if n <= _SMALL:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(a)))
    half = n // 2
    upper = _inverse_root(a[:half, :half])
    across = product(upper, a[:half, half:])
    below = np.ascontiguousarray(across.T)
    lower = _inverse_root(a[half:, half:] - product(below, across))
    found = np.zeros_like(a)
    found[:half, :half] = upper
    found[half:, :half] = -product(lower, product(below, upper))
    found[half:, half:] = lower
    return found
