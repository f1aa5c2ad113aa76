"""The function that is run, by the name that the user gave, and what it is called with."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lithowatt._support.files import read_plain
from lithowatt._support.text import shortened
from lithowatt.errors import MalformedValueError, UnreadableFileError

#: Parameters that Lithops itself gives a function; `id` is the number of the call.
GIVEN_BY_LITHOPS = ("id", "storage", "ibm_cos", "rabbitmq")

#: Longest file of arguments, bytes: they travel with each job.
MOST_BYTES = 1 << 24

#: What no argument was given is.
NOTHING: tuple[()] = ()


def load_workload(text: str) -> Callable[..., Any]:
    """The function of `MODULE:FUNCTION` or `FILE.py:FUNCTION`.

    A file is imported as the module of its name, with its folder first among those that are
    searched: Lithops finds it there, and sends it along.

    Raises:
        MalformedValueError: The text is neither, importing fails, or there is no such function.
        UnreadableFileError: There is no such file.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise MalformedValueError(
            f"workload {shortened(text)!r} is not MODULE:FUNCTION or FILE.py:FUNCTION"
        )
    path = Path(place)
    if place.endswith(".py") or os.sep in place:
        module = _from_file(path)
    else:
        sys.path.insert(0, str(Path.cwd()))
        module = _imported(place, place)
    function = getattr(module, name, None)
    if not callable(function):
        there = [
            one
            for one, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        raise MalformedValueError(
            f"{place} has no function {name}; it has {', '.join(there) or 'none'}"
        )
    found: Callable[..., Any] = function
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise UnreadableFileError(f"{path}: there is no such file")
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise MalformedValueError(
            f"{path} cannot be imported: its name is not like workload.py, with letters, digits "
            "and _ alone"
        )
    if name in sys.stdlib_module_names or name in sys.modules:
        raise MalformedValueError(
            f"{path} cannot be imported as {name}: a module of this name is there already; rename "
            "the file"
        )
    sys.path.insert(0, str(path.resolve().parent))
    importlib.invalidate_caches()
    module = _imported(name, os.fspath(path))
    found = getattr(module, "__file__", None)
    if found is None or not path.samefile(found):
        raise MalformedValueError(f"{path} is not what is imported as {name}, which is {found}")
    return module


def _imported(name: str, shown: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise MalformedValueError(
            f"importing {shown} fails: {type(error).__name__}: {shortened(str(error), 200)}"
        ) from error


def load_arguments(text: str) -> Any:
    """The value of `--args`: JSON, or a file of JSON.

    Raises:
        MalformedValueError: It is no JSON.
        UnreadableFileError: The file cannot be read.
    """
    content, name = text, "--args"
    try:
        there = Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or none
        there = False
    if there or text.endswith(".json"):
        name = text
        try:
            content = read_plain(text, MOST_BYTES).decode("utf-8-sig")
        except OSError as error:
            raise UnreadableFileError(f"{text}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise MalformedValueError(f"{text} is not UTF-8: {error}") from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MalformedValueError(f"{name} is neither JSON nor a file of JSON: {error}") from error


def bound(function: Callable[..., Any], arguments: Any) -> Any:
    """One call's data as Lithops takes it: a tuple by place, a dict by name.

    Args:
        function: The workload.
        arguments: A mapping by name, a list or tuple by place, or the only argument.

    Raises:
        MalformedValueError: The function cannot be called with them.

    Example:
        >>> bound(lambda n, m=2: n, {"n": 1})
        {'n': 1, 'm': 2}
        >>> bound(lambda n: n, 7), bound(lambda: 0, ())
        ((7,), ())
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise MalformedValueError(f"the workload's parameters are not known: {error}") from error
    own = [one for name, one in signature.parameters.items() if name not in GIVEN_BY_LITHOPS]
    signature = signature.replace(parameters=own, return_annotation=inspect.Signature.empty)
    try:
        if isinstance(arguments, dict):
            made = signature.bind(**arguments)
            # Lithops takes names only if there are all of them.
            made.apply_defaults()
            return dict(made.arguments)
        values = tuple(arguments) if isinstance(arguments, (list, tuple)) else (arguments,)
        signature.bind(*values)
    except TypeError as error:
        raise MalformedValueError(
            f"the workload takes {signature}, and not these arguments: {error}"
        ) from error
    return values
