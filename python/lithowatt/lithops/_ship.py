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

from lithowatt.errors import LithowattError

if TYPE_CHECKING:
    import os

    StrPath = str | os.PathLike[str]

__all__ = ["ShipError", "Shipping", "ship_meter"]

logger = logging.getLogger("lithowatt")

#: What of the package no worker has a use for.
_LEFT_OUT = (
    "__main__.py",
    "_pytest",
    "_setup",
    "agent",
    "analysis",
    "carbon.py",  # its tables are in data
    "cli",
    "data",
    "figures",
    "ipython.py",
    "profiles",
    "pytest_plugin.py",
    "top",
    "trace",
    "validate.py",
)
#: Of the reports what functions may hold and use; pages are made in clients.
_OF_REPORTS = (
    "__init__.py",
    "_executions.py",
    "_plain.py",
    "collector.py",
    "energy_report.py",
    "logger.py",
)
#: And single modules that run in clients alone.
_CLIENTS = (
    "lithowatt/flexecutor/_scheduling.py",
    "lithowatt/lithops/__main__.py",
    "lithowatt/lithops/_config.py",
    "lithowatt/lithops/_dockerfile.py",
    "lithowatt/lithops/_k8s_template.py",
    "lithowatt/lithops/_layer.py",
    "lithowatt/lithops/_runtime.py",
    "lithowatt/lithops/_ship.py",
    "lithowatt/lithops/_table.py",
    "lithowatt/lithops/backends/",
    "lithowatt/lithops/kubernetes.py",
    "lithowatt/model/_calibrate.py",
)

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
        from lithowatt.lithops._layer import wheel_files

        found = {
            name: content
            for name, content in wheel_files(wheel)
            if name.startswith("lithowatt/") and name.endswith((".py", ".so"))
        }
    kept = {name: content for name, content in found.items() if _of_workers(name)}
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


def _of_workers(name: str) -> bool:
    """Whether workers have a use for this file of the package."""
    _, top, *below = name.split("/")
    if top == "report":
        return "/".join(below) in _OF_REPORTS
    return top not in _LEFT_OUT and not name.startswith(_CLIENTS)


def _load(pickled: bytes, bundle: str) -> Any:
    """Loads the function in a worker.

    It runs there by value and so knows no name of this module. The workers of a
    machine may share the folder that Lithops unpacks a job's files in and write
    it again while others run, which a mapped extension does not survive: it is
    loaded from a folder that is only ever made whole. That one is in a folder
    which nobody but this user (and root) can have made or can put anything into,
    and it is made of the very bytes whose digest was compared.
    """
    import pickle

    try:
        import hashlib
        import io
        import os
        import shutil
        import stat
        import sys
        import tempfile
        import time
        import zipfile

        try:
            import lithowatt._core  # noqa: F401 (can it be imported?)
        except ImportError:
            for name in [n for n in sys.modules if n.split(".")[0] == "lithowatt"]:
                del sys.modules[name]
            user = os.geteuid()

            def others_cannot_exchange(folder: str) -> bool:
                # Whoever may rename an entry of a folder on the way exchanges what is below.
                while True:
                    status = os.lstat(folder)
                    shared = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
                    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, user) or shared:
                        return False
                    if folder == "/":
                        return True
                    folder = os.path.dirname(folder)  # noqa: PTH120

            def private(parent: str) -> str | None:
                try:
                    parent = os.path.realpath(parent)
                    if not others_cannot_exchange(parent):
                        return None
                    folder = os.path.join(parent, f"lithowatt-{user}")  # noqa: PTH118
                    try:  # noqa: SIM105
                        os.mkdir(folder, 0o700)  # noqa: PTH102
                    except FileExistsError:
                        pass
                    # What is there may be anybody's, also a link to a folder of this user's.
                    status = os.lstat(folder)
                except OSError:
                    return None
                ours = stat.S_ISDIR(status.st_mode) and status.st_uid == user
                return folder if ours and not status.st_mode & 0o077 else None

            def checked() -> bytes:
                digest = bundle[:-4].rpartition("-")[2]
                found = [os.path.join(p, bundle) for p in sys.path if p]  # noqa: PTH118
                found = [path for path in found if os.path.isfile(path)]  # noqa: PTH113
                for pause in (0.0, *[0.01] * 20, *[0.1] * 10):
                    time.sleep(pause)  # another worker is writing it again
                    with open(found[-1], "rb") as file:  # noqa: PTH123
                        content = file.read()
                    if hashlib.sha256(content).hexdigest() == digest:
                        return content
                raise ImportError(f"{bundle} is damaged")

            places = (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
            home = next(filter(None, map(private, places)), None)
            if home is None:
                raise
            package = os.path.join(home, bundle[:-4])  # noqa: PTH118
            if not os.path.isdir(package):  # noqa: PTH112
                content = checked()
                for name in os.listdir(home):  # noqa: PTH208
                    # What a worker left that was killed meanwhile.
                    half = os.path.join(home, name)  # noqa: PTH118
                    if name.startswith("half-") and os.lstat(half).st_mtime < time.time() - 600:
                        shutil.rmtree(half, ignore_errors=True)
                half = tempfile.mkdtemp(prefix="half-", dir=home)
                try:
                    with zipfile.ZipFile(io.BytesIO(content)) as archive:
                        archive.extractall(half)
                    os.rename(half, package)  # noqa: PTH104
                except BaseException:
                    shutil.rmtree(half, ignore_errors=True)
                    # Another worker may have been first.
                    if not os.path.isdir(package):  # noqa: PTH112
                        raise
            sys.path.insert(0, package)
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
