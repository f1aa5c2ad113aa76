"""What people look at and keep: reports of results, and a log of the energy of jobs.

>>> from lithowatt import report
>>> report.__name__
'lithowatt.report'
"""

from __future__ import annotations

from lithowatt._support import attach

__all__: list[str] = []

#: Names of this package, and the module of each.
__getattr__ = attach(__name__, globals(), {})
