"""Importing this module meters every FlexExecutor workflow of the process.

The one line for a script that shall not change otherwise:

    import lithowatt.flexecutor.auto

FlexExecutor may be imported before or after, or not at all. It is
`lithowatt.flexecutor.install` that never raises.
"""

from __future__ import annotations

import sys

from lithowatt._support.harmless import Harmless
from lithowatt._support.switches import enabled
from lithowatt.flexecutor._patch import MODULES, patch_executor, watch

with Harmless("metering FlexExecutor"):
    if enabled():
        watch()
        for _name in MODULES:
            if _name in sys.modules:
                patch_executor(sys.modules[_name].__dict__)
