"""Profiles in object storage, analysed where Lithops runs: a call a file, then one for all.

Each call reads one profile and sends it on as arrays that hold the same bits; the last puts them
together and computes. So the result is what the same files give on one machine.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt._support.text import shortened
from lithowatt.errors import LithowattError, MalformedValueError, UnreadableFileError
from lithowatt.profiles._compact import from_bytes, to_bytes
from lithowatt.profiles._find import ENDINGS, Label, compiled_group, name_below
from lithowatt.profiles._runs import ProfileFile, Profiles, Skipped, none_found, read_file

#: Profiles below a prefix that are analysed in one job, at most.
MOST_PROFILES = 100_000

_PATTERN = re.compile(r"[*?\[]")


class Location(NamedTuple):
    """Where profiles are in object storage.

    Attributes:
        bucket: Name of the bucket.
        prefix: What the keys begin with; empty for all of the bucket.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Location:
        """The location of `BUCKET/PREFIX`.

        Raises:
            MalformedValueError: There is no bucket.

        Example:
            >>> Location.parse("results/2026/pi")
            Location(bucket='results', prefix='2026/pi')
        """
        bucket, _, prefix = text.partition("/")
        if not bucket:
            raise MalformedValueError(f"location {shortened(text)!r} is not BUCKET/PREFIX")
        return cls(bucket, prefix.strip("/"))

    def name_of(self, key: str) -> str:
        """What results call an object: its key below the prefix, as of a file below a folder."""
        below = key[len(self.prefix) :].lstrip("/") if self.prefix else key
        return name_below(self.prefix.rpartition("/")[2] or self.bucket, below)


def analyse_stored(
    executor: Any,
    location: str,
    compute: Callable[[Profiles], dict[str, Any]],
    *,
    group: str | None = None,
    keep: AbstractSet[str] | None = None,
) -> dict[str, Any]:
    """What `compute` says of all the profiles below a prefix, computed in Lithops workers.

    The runtime has to have this version of lithowatt.

    Args:
        executor: A `lithops.FunctionExecutor` of the configuration that is wanted. Objects are
            read from its storage.
        location: `BUCKET/PREFIX`.
        compute: A function of a module, or a `functools.partial` of one; what it returns is sent
            as plain numbers, texts, lists and dicts.
        group: See `read_profiles`.
        keep: Names of the columns that `compute` needs, see `read_profiles`.

    Raises:
        MalformedValueError: The location is none.
        UnreadableFileError: No profile is there.
    """
    where = Location.parse(location)
    compiled_group(group)
    keys = profile_keys(executor.storage, where)
    calls = [
        {
            "bucket": where.bucket,
            "key": key,
            "name": where.name_of(key),
            "group": group,
            "keep": keep,
        }
        for key in keys
    ]
    # A reducer that waits takes the place of a worker: it starts when all are done. But not on
    # localhost, where calls run in the order in which they came, so that it begins last all the
    # same: there Lithops 3.8.0 may never start a job that follows a wait for another one.
    start_at = 0 if executor.backend == "localhost" else 100
    futures = executor.map_reduce(
        _read_one, calls, _analyse, extra_args_reduce=(compute,), spawn_reducer=start_at
    )
    # Of these alone: results of other jobs, which nobody asked for so far, stay the user's, and
    # what the user asks for later has nothing of this job.
    results = executor.get_result(fs=futures)
    ours = set(map(id, futures))
    executor.futures[:] = [future for future in executor.futures if id(future) not in ours]
    result: dict[str, Any] = results[-1] if isinstance(results, list) else results
    if "error" in result:
        raise UnreadableFileError(f"{location}: {result['error']}")
    return result


@contextlib.contextmanager
def executor_of_user() -> Iterator[Any]:
    """An executor of the Lithops configuration that is found as Lithops finds it.

    Raises:
        UnreadableFileError: Lithops is not installed.
    """
    try:
        from lithops import FunctionExecutor
    except ImportError as error:
        raise UnreadableFileError(
            f"profiles in object storage are read by Lithops, which is not there ({error}): "
            "pip install lithops"
        ) from error
    # Its progress goes to standard output, where the result goes.
    with FunctionExecutor(log_level="ERROR") as executor:
        yield executor


def profile_keys(storage: Any, where: Location) -> list[str]:
    """Keys of the JSON objects below the prefix, in order.

    Raises:
        UnreadableFileError: There are none, or too many.
    """
    prefix = f"{where.prefix}/" if where.prefix else None
    keys = sorted(key for key in _listed(storage, where.bucket, prefix) if key.endswith(ENDINGS))
    if not keys:
        raise UnreadableFileError(
            f"{where.bucket}/{where.prefix}: no object below it ends with .json or .jsonl"
        )
    if len(keys) > MOST_PROFILES:
        raise UnreadableFileError(
            f"{where.bucket}/{where.prefix}: {len(keys)} profiles, at most {MOST_PROFILES} are "
            "analysed at once"
        )
    return keys


def _listed(storage: Any, bucket: str, prefix: str | None) -> list[str]:
    """Keys that begin with the prefix, whatever characters it has.

    Lithops' localhost storage (3.8.0) takes the prefix for a pattern: it is asked only for what
    is before the first character that has a meaning there.
    """
    plain = _PATTERN.split(prefix or "", maxsplit=1)[0]
    return [key for key in storage.list_keys(bucket, plain or None) if key.startswith(prefix or "")]


def _read_one(
    bucket: str,
    key: str,
    name: str,
    group: str | None,
    keep: AbstractSet[str] | None,
    storage: Any,
) -> tuple[str, bytes, str | None]:
    """One object's name, and its profile as bytes or why it is none."""
    label = Label.of(name, compiled_group(group))
    with tempfile.TemporaryDirectory(prefix="lithowatt-") as directory:
        path = Path(directory, "profile.json" + ("l" if key.endswith("l") else ""))
        path.write_bytes(storage.get_object(bucket, key))
        sidecar = f"{key}.energy"
        # Listed first: storages differ in how they say that an object is not there.
        if sidecar in _listed(storage, bucket, sidecar):
            path.with_name(f"{path.name}.energy").write_bytes(storage.get_object(bucket, sidecar))
        try:
            files = read_file(str(path), name, label, keep=keep)
        except LithowattError as error:
            return name, b"", str(error).replace(str(path), name)
    return name, to_bytes(files), None


def _analyse(
    results: list[tuple[str, bytes, str | None]], compute: Callable[[Profiles], dict[str, Any]]
) -> dict[str, Any]:
    from lithowatt.analysis._envelope import plain

    files: list[ProfileFile] = []
    skipped: list[Skipped] = []
    for name, content, reason in sorted(results):
        if reason is None:
            files += from_bytes(content)
        else:
            skipped.append(Skipped(name, reason))
    if not files:
        return {"error": none_found(skipped)}
    result: dict[str, Any] = plain(compute(Profiles(tuple(files), tuple(skipped))))
    return result
