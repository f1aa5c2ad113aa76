"""Energy in the stats of every Lithops call, with no change to the user's code.

Installing lithowatt is all there is to do: a `.pth` file of the wheel makes
each interpreter watch for the import of Lithops' worker, and a worker then
adds `worker_func_energy_consumption` and its companions to the stats of each
call. It works in whichever interpreter runs the workers, so that is the one
lithowatt has to be installed in; `lithowatt lithops status` shows whether it is.

Environment, read in the worker:

* `ENERGY_MONITORING_ENABLED`: `false`, `0`, `no` or `off` leave Lithops alone.
* `ENERGY_METHODS`, `ENERGY_COLLECTION_INTERVAL` (ms), `ENERGY_DEFINITION`,
  `ENERGY_STATS`: as for any `lithowatt.EnergyMeter`.

On the localhost backend a worker inherits the client's environment. On every
backend `FunctionExecutor.map(..., extra_env={...})` and `call_async` set it
for one job, for which lithowatt may then be loaded, but does nothing.

A call that ends without a word of its own (killed, timed out, `os._exit`)
carries the energy of its whole task in the worker instead, with ` (task
window)` in `worker_func_energy_method` and the reason in
`worker_func_energy_warnings`.

Beside the function's values each call has those of its whole task,
`worker_task_energy_*`, with the function inside of it (so the two are never
added up), the start of a cold worker apart, and `worker_task_cold_start`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from lithowatt._support import attach

if TYPE_CHECKING:
    from lithowatt.cli.lithops import add_cli, main_status
    from lithowatt.lithops._config import ConfigProblem, Finding, check_config
    from lithowatt.lithops._layer import Layer, LayerError, build_layer
    from lithowatt.lithops._runtime import Attached, RuntimeProblem, attach_layer
    from lithowatt.lithops._ship import ShipError, Shipping, ship_meter
    from lithowatt.lithops._status import HookStatus, status
    from lithowatt.lithops._table import CallEnergy, EnergyTable, table

__all__ = [
    "Attached",
    "CallEnergy",
    "ConfigProblem",
    "EnergyTable",
    "Finding",
    "HookStatus",
    "Layer",
    "LayerError",
    "RuntimeProblem",
    "ShipError",
    "Shipping",
    "add_cli",
    "attach_layer",
    "build_layer",
    "check_config",
    "install_hook",
    "main_status",
    "ship_meter",
    "status",
    "table",
    "uninstall_hook",
]

_HANDLER = "lithops.worker.handler"

__getattr__ = attach(
    __name__,
    globals(),
    {
        "Attached": "_runtime",
        "CallEnergy": "_table",
        "ConfigProblem": "_config",
        "EnergyTable": "_table",
        "Finding": "_config",
        "HookStatus": "_status",
        "Layer": "_layer",
        "LayerError": "_layer",
        "RuntimeProblem": "_runtime",
        "ShipError": "_ship",
        "Shipping": "_ship",
        "add_cli": "lithowatt.cli.lithops",
        "attach_layer": "_runtime",
        "build_layer": "_layer",
        "check_config": "_config",
        "main_status": "lithowatt.cli.lithops",
        "ship_meter": "_ship",
        "status": "_status",
        "table": "_table",
    },
)


def install_hook() -> bool:
    """Meters the Lithops calls that this process will run.

    Only needed where the wheel's `.pth` is not in a site directory, as with
    `PYTHONPATH` or `pip install --target`: call it where the worker starts,
    before or after Lithops is imported. Calling it again changes nothing.

    Returns False, and logs why, if the environment switches metering off or
    the layout of the Lithops found is unknown.

    Raises:
        ImportError: Lithops is not installed.

    Example:
        >>> from lithowatt.lithops import install_hook
        >>> install_hook()  # doctest: +SKIP
        True
    """
    from lithowatt._support.switches import enabled
    from lithowatt.lithops import _worker

    if not enabled():
        return False
    return _worker.patch(importlib.import_module(_HANDLER))


def uninstall_hook() -> None:
    """Leaves Lithops in this process as upstream wrote it.

    Undoes `install_hook` and, for this process, the `.pth`. Calls that are
    under way still report their energy. Calling it again changes nothing.
    """
    from lithowatt._support.hook import hook_here

    hook = hook_here()
    if hook is not None:
        hook.uninstall()
    handler = sys.modules.get(_HANDLER)
    if handler is not None:
        from lithowatt.lithops import _worker

        _worker.unpatch(handler)
