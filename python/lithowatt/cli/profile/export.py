"""``lithowatt profile export``: one row a worker call, as CSV, JSON lines, Arrow or Parquet."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lithowatt._support.text import counted, printable
from lithowatt.cli.profile._inputs import add_basis, add_group, add_json, add_paths


def add_verb(verbs: Any) -> None:
    """Adds ``export`` to the verbs of ``lithowatt profile``."""
    export = verbs.add_parser(
        "export",
        help="one row a worker call, as CSV, JSON lines, Arrow or Parquet",
        description="Writes one row for each worker call of all the profiles. No row is dropped: "
        "left_out names the rules of lint that leave its repetition out, or says 'unusable'. Files "
        "larger than memory can be exported. A table that is there is replaced, an input never.",
    )
    add_paths(export)
    export.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="x.csv, x.jsonl, x.arrow or x.parquet; DIR/ for a folder of Parquet files by "
        "workload, stage and architecture. Arrow and Parquet need pyarrow",
    )
    add_basis(export)
    add_group(export)
    export.add_argument(
        "--region", default="us-east-1", help="AWS region of the prices (default: %(default)s)"
    )
    add_json(export)
    export.set_defaults(func=_export)


def _export(arguments: argparse.Namespace) -> int:
    from lithowatt._support.install import arrow
    from lithowatt.analysis._envelope import as_text, envelope
    from lithowatt.analysis.basis import Basis
    from lithowatt.analysis.selection import Settings
    from lithowatt.errors import MalformedValueError
    from lithowatt.profiles._export import export, format_of
    from lithowatt.profiles._outputs import keep_given, keep_inputs
    from lithowatt.profiles._runs import CORE, read_profiles
    from lithowatt.profiles._stream import read_again, without_rows
    from lithowatt.profiles._tidy import Layout, facts_of, table_rows

    form = format_of(arguments.output)
    if form not in ("csv", "jsonl"):
        arrow()  # before all the work
    keep_given([arguments.output], arguments.path)
    settings = Settings(basis=Basis.of(arguments.basis, arguments.exclude), region=arguments.region)
    try:
        said = settings.as_json()
    except ValueError as error:
        raise MalformedValueError(str(error)) from None  # a region without prices
    # Arrow's own allocator keeps what it was given back: as much again as all the rest.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # What lint looks at; the rest is read when it is written, a configuration at a time.
    keep = frozenset((*CORE, "cpu_architecture", "aws_cpu"))
    profiles = read_profiles(arguments.path, group=arguments.group, keep=keep)
    keep_inputs([arguments.output], (file.path for file in profiles.files))
    layout, facts = Layout(profiles), facts_of(profiles, settings)
    result = envelope("export", profiles, said)
    profiles = without_rows(profiles)
    rows = table_rows(read_again(profiles), layout, facts, arguments.region)
    count = export(rows, layout, arguments.output)
    if arguments.json:
        result["output"] = {
            "file": arguments.output,
            "format": form,
            "rows": count,
            "columns": layout.names,
        }
        print(as_text(result))
    else:
        for one in profiles.skipped:
            print(printable(f"skipped {one.file}: {one.reason}"))
        print(
            f"{counted(count, 'row')} of {counted(len(profiles.files), 'profile')} "
            f"in {printable(arguments.output)}"
        )
    return 0
