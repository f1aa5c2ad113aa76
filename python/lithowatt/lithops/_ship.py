"""Sends the meter along with a job, to workers that have no lithowatt. In the client.

Lithops uploads, for each function, one pickle with the function's own pickle and
the files of the modules that it needs; a worker unpacks the files and then loads
the function. Both are done by one call in `lithops.job.job`, the same in
all releases from 3.1.0 to 3.8.0, and that call is what is intercepted here.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import logging
import pickle
import types
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._errors import LithowattError

if TYPE_CHECKING:
    import os

    StrPath = str | os.PathLike[str]

__all__ = ["ShipError", "Shipping", "ship_meter"]

logger = logging.getLogger("lithowatt")

#: Folders of the package that no worker has a use for.
_LEFT_OUT = ("analysis", "data", "profiles", "report")

#: What Lithops pickles for a function.
_FUNCTION, _MODULES = "func", "module_data"


class ShipError(LithowattError, RuntimeError):
    """A meter that cannot be sent, or a Lithops whose jobs are made in another way."""


class Shipping:
    """The meter travels with every job of this process until `stop`.

    Attributes:
        size: Bytes that it adds to what a job uploads for a function it has not
            uploaded before.
    """

    def __init__(self, bundle: str, content: bytes) -> None:
        encoded = base64.b64encode(content).decode()
        self._job = _job_module()
        self._pickle = self._job.pickle
        self.size = len(encoded)
        if isinstance(self._pickle, _Pickle):
            raise ShipError("the meter is sent already: stop() the first before another")
        if not callable(getattr(self._pickle, "dumps", None)):
            raise ShipError("this Lithops makes its jobs in another way: the meter is not sent")
        self._job.pickle = _Pickle(self._pickle, bundle, encoded)

    def stop(self) -> None:
        """Jobs from now on travel as upstream has them. Calling it again changes nothing."""
        if isinstance(self._job.pickle, _Pickle):
            self._job.pickle = self._pickle

    def __enter__(self) -> Shipping:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Pickle:
    """The module `pickle` as `lithops.job.job` sees it."""

    def __init__(self, real: Any, bundle: str, encoded: str) -> None:
        self._real = real
        self._bundle = bundle
        self._encoded = encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def dumps(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            value = self._with_meter(value)
        except Exception as error:
            logger.warning("the meter does not travel with a job: %r", error)
        return self._real.dumps(value, *args, **kwargs)

    def _with_meter(self, value: Any) -> Any:
        if not isinstance(value, dict) or set(value) != {_FUNCTION, _MODULES}:
            return value
        function, modules = value[_FUNCTION], value[_MODULES]
        if not isinstance(function, bytes):
            raise TypeError(f"the function is {type(function).__name__}, not bytes")
        return {
            _FUNCTION: _metered(function, self._bundle),
            _MODULES: {**(modules or {}), self._bundle: self._encoded},
        }


def _job_module() -> Any:
    return importlib.import_module("lithops.job.job")


def ship_meter(wheel: StrPath | None = None) -> Shipping:
    """Has the jobs of this process take the meter along to workers that lack it.

    For a runtime that is deployed and shall stay as it is. Calls that end in Python
    (with a result or an exception) carry `worker_func_energy_*`; those that are killed,
    time out or exit carry none, and no call carries `worker_task_*` or `worker_func_aws_*`,
    which only a worker with lithowatt can have. Values come as numbers and text: what is
    unavailable is left out, `True` is text. The first call on a machine unpacks the meter
    into the temporary directory there, 2 MB that stay for the next. Where lithowatt is
    installed in the worker, that one meters, and this does nothing.

    Args:
        wheel: The wheel to send; by default the lithowatt that runs here. Workers of another
            architecture or system than the client's take the wheel for theirs.

    Returns:
        What `stop` or the end of a `with` block ends.

    Raises:
        ShipError: Lithops makes its jobs in another way, the meter is being sent already,
            or there is no extension for Linux to send.
        LayerError: Not a wheel of lithowatt.
        ImportError: Lithops is not installed.
        OSError: The wheel cannot be read.

    Example:
        >>> from lithowatt.lithops import ship_meter
        >>> with ship_meter():  # doctest: +SKIP
        ...     futures = executor.map(function, data)
    """
    return Shipping(*_bundle(None if wheel is None else Path(wheel)))


def _bundle(wheel: Path | None) -> tuple[str, bytes]:
    """The name and the content of a zip with what a worker needs of the package."""
    if wheel is None:
        package = Path(__file__).parent.parent
        found = {
            f"{package.name}/{file.relative_to(package).as_posix()}": file.read_bytes()
            for file in package.rglob("*")
            if file.suffix in (".py", ".so") and "__pycache__" not in file.parts
        }
    else:
        from ._layer import wheel_files

        found = {
            name: content
            for name, content in wheel_files(wheel)
            if name.startswith("lithowatt/") and name.endswith((".py", ".so"))
        }
    kept = {n: c for n, c in found.items() if n.split("/")[1] not in _LEFT_OUT}
    if not any(name.endswith(".so") for name in kept):
        raise ShipError("there is no extension for Linux here: give the workers' wheel")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in sorted(kept.items()):
            # The same bytes each time, so that Lithops sees a function it has uploaded.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            bundle.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    return f"lithowatt-{digest}.zip", buffer.getvalue()


def _load(pickled: bytes, bundle: str) -> Any:
    """Loads the function in a worker.

    It runs there by value and so knows no name of this module. The workers of a
    machine may share the folder that Lithops unpacks a job's files in and write
    it again while others run, which a mapped extension does not survive: it is
    loaded from a folder that is only ever made whole.
    """
    import pickle

    try:
        import hashlib
        import os
        import shutil
        import sys
        import tempfile
        import time
        import zipfile

        try:
            import lithowatt._core  # noqa: F401 (can it be imported?)
        except ImportError:
            for name in [n for n in sys.modules if n.split(".")[0] == "lithowatt"]:
                del sys.modules[name]
            home = os.path.join(tempfile.gettempdir(), f"{bundle[:-4]}-{os.getuid()}")  # noqa: PTH118
            if not os.path.isdir(home):  # noqa: PTH112
                found = [os.path.join(p, bundle) for p in sys.path if p]  # noqa: PTH118
                found = [path for path in found if os.path.isfile(path)]  # noqa: PTH113
                for _ in range(20):
                    with open(found[-1], "rb") as file:  # noqa: PTH123
                        whole = hashlib.sha256(file.read()).hexdigest() in bundle
                    if whole:
                        break
                    time.sleep(0.01)
                else:
                    raise
                building = tempfile.mkdtemp()
                try:
                    with zipfile.ZipFile(found[-1]) as archive:
                        archive.extractall(building)
                    os.rename(building, home)  # noqa: PTH104
                except OSError:
                    shutil.rmtree(building, ignore_errors=True)
            if os.stat(home).st_uid != os.getuid():  # noqa: PTH116
                raise
            sys.path.insert(0, home)
        from lithowatt.lithops import _shipped
    except BaseException:  # another architecture, a panic: the function is what counts
        return pickle.loads(pickled)  # noqa: S301 (what Lithops would have loaded)
    return _shipped.load(pickled)


def _by_value(function: types.FunctionType) -> types.FunctionType:
    """The function as cloudpickle sends one that was defined at a prompt."""
    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    copy.__qualname__ = copy.__name__ = "_lithowatt_load"
    return copy


class _Metered:
    def __init__(self, pickled: bytes, bundle: str) -> None:
        self._arguments = (pickled, bundle)

    def __reduce__(self) -> tuple[Any, tuple[bytes, str]]:
        return _by_value(_load), self._arguments  # type: ignore[arg-type]


def _metered(function: bytes, bundle: str) -> bytes:
    """Bytes that load to the function of these bytes, metered where that is possible."""
    cloudpickle = importlib.import_module("cloudpickle")
    return bytes(cloudpickle.dumps(_Metered(function, bundle), pickle.DEFAULT_PROTOCOL))
