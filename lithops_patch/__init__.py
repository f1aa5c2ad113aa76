"""Patches a vendored copy in place, so that it meters its functions, and takes that back.

    python -m lithops_patch check|apply|revert [--target flexecutor] [--path DIR] [--diff]

Needs nothing but Python; lithowatt itself need not be installed where this runs.

Example:
    >>> from lithops_patch import TARGETS
    >>> [file.path for file in TARGETS["flexecutor"].files if file.insertions]
    ['workflow/executor.py']
"""

from ._files import Refused
from ._own import in_words, own_meter
from ._patch import Change, State, Verdict, apply, check, find_package, revert
from ._source import Insertion, Place, Shape, end_of_module
from ._targets import TARGETS, File, Target

__all__ = [
    "TARGETS",
    "Change",
    "File",
    "Insertion",
    "Place",
    "Refused",
    "Shape",
    "State",
    "Target",
    "Verdict",
    "apply",
    "check",
    "end_of_module",
    "find_package",
    "in_words",
    "own_meter",
    "revert",
]
