"""A profile that was read, as bytes: what one worker sends to the one that puts all together.

NumPy's own format for several arrays, without pickled objects; the arrays hold the same bits as
those that were read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lithowatt.errors import MalformedValueError
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._find import Label
from lithowatt.profiles._runs import Column, ConfigurationRuns, ProfileFile

#: Version of the layout. Both ends of a job run the same lithowatt; a mix is refused.
LAYOUT = 2


def to_bytes(files: list[ProfileFile]) -> bytes:
    """The stages of one file as bytes, see `from_bytes`."""
    arrays: dict[str, Any] = {}

    def kept(array: Any) -> int:
        arrays[f"a{len(arrays)}"] = array
        return len(arrays) - 1

    head = {
        "layout": LAYOUT,
        "files": [
            {
                "path": file.path,
                "name": file.name,
                "source": file.source,
                "sha256": file.sha256,
                "label": file.label._asdict(),
                "sidecar": file.sidecar,
                "of_lithops": file.of_lithops,
                "configurations": [
                    {
                        "key": one.key,
                        "configuration": list(one.configuration),
                        "widths": kept(one.widths),
                        "records": list(one.records),
                        "columns": [
                            {
                                "name": column.name,
                                "lengths": kept(column.lengths),
                                "numbers": None if column.numbers is None else kept(column.numbers),
                                "codes": None if column.codes is None else kept(column.codes),
                                "labels": list(column.labels),
                                "whole": column.whole,
                            }
                            for column in one.columns.values()
                        ],
                    }
                    for one in file.configurations
                ],
            }
            for file in files
        ],
    }
    text = json.dumps(head).encode()
    content = io.BytesIO()
    np.savez_compressed(content, head=np.frombuffer(text, dtype=np.uint8), **arrays)
    return content.getvalue()


def from_bytes(content: bytes) -> list[ProfileFile]:
    """The stages that `to_bytes` was given.

    Raises:
        MalformedValueError: The bytes are of something else, or of another version's layout.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["layout"] != LAYOUT:
                raise MalformedValueError(
                    f"a profile of layout {head['layout']} was sent, {LAYOUT} is expected: all "
                    "workers have to have one version of lithowatt"
                )
            return list(_files(head, arrays))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        if isinstance(error, MalformedValueError):
            raise
        raise MalformedValueError(f"these bytes are no profile: {error}") from error


def _files(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> Iterator[ProfileFile]:
    def array(number: int | None) -> Any:
        return None if number is None else arrays[f"a{number}"]

    for file in head["files"]:
        configurations = tuple(
            ConfigurationRuns(
                one["key"],
                Configuration.of(one["configuration"]),
                array(one["widths"]),
                {
                    column["name"]: Column(
                        column["name"],
                        array(column["lengths"]),
                        array(column["numbers"]),
                        array(column["codes"]),
                        tuple(column["labels"]),
                        column["whole"],
                    )
                    for column in one["columns"]
                },
                tuple(one["records"]),
            )
            for one in file["configurations"]
        )
        yield ProfileFile(
            file["path"],
            file["name"],
            file["source"],
            file["sha256"],
            Label(**file["label"]),
            configurations,
            file["sidecar"],
            of_lithops=file["of_lithops"],
        )
