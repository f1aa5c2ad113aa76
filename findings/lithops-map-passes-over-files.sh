#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost backend and storage
#
# A map function with a parameter `obj` gets files or objects instead of values. map() promises "a list with size
# len(map_iterdata) of futures"; the page on data partitioning says nothing of entries that are left out.
#
# Expected: one call for each entry, or an error that names the entry. Repeating an entry is the plain way to
# measure the same work several times.
# Seen, each without an error or a message at the usual log levels:
#   the same path five times                  one call
#   a path that does not exist, beside one    one call: the missing file is passed over
#   an empty file, beside one                 one call: the empty file is passed over
#   a path and an object of the storage       one call: the object is passed over
# Results are then fewer than inputs, and zip() pairs them wrongly. With values instead of files, five equal
# entries are five calls.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check lithops==3.8.0
# Everything that Lithops writes goes into the temporary folder.
export PATH="$work/venv/bin:$PATH" HOME="$work" TMPDIR="$work"
cat >"$work/seen.py" <<'PY'
import sys
from pathlib import Path

import lithops

CONFIG = {"lithops": {"backend": "localhost", "storage": "localhost"}}


def size(obj):
    return len(obj.data_stream.read())


def same(value):
    return value


if __name__ == "__main__":
    data = Path(sys.argv[1], "data")
    data.mkdir(exist_ok=True)
    short, longer, empty, missing = (str(data / name) for name in ("short", "longer", "empty", "missing"))
    Path(short).write_text("1 J\n")
    Path(longer).write_text("22 J\n")
    Path(empty).write_text("")
    with lithops.FunctionExecutor(config=CONFIG, log_level="ERROR") as executor:
        executor.storage.put_object("bucket", "object", b"333 J\n")
        seen = {}
        for name, function, entries in (
            ("five equal values", same, [7] * 5),
            ("five equal paths", size, [short] * 5),
            ("a missing path first", size, [missing, longer]),
            ("an empty file first", size, [empty, longer]),
            ("an object first", size, ["bucket/object", longer]),
            ("the object alone", size, ["bucket/object"]),
        ):
            seen[name] = (len(entries), executor.get_result(executor.map(function, entries)))
            print(f"{name}: {len(entries)} entries,", "results", seen[name][1])
    assert seen["five equal values"] == (5, [7] * 5)
    assert seen["the object alone"] == (1, [6])
    assert seen["five equal paths"] == (5, [4]), "mended"
    assert seen["a missing path first"] == (2, [5]), "mended"
    assert seen["an empty file first"] == (2, [5]), "mended"
    assert seen["an object first"] == (2, [5]), "mended"
PY
# On a busy machine a wait of Lithops' client sometimes does not end; that is not the point here.
for _ in 1 2 3; do
    seen=0
    timeout -k 10 150 python "$work/seen.py" "$work" || seen=$?
    [ "$seen" = 124 ] || break
done
[ "$seen" = 0 ]
echo "seen as stated"
