#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost backend and storage
#
# A text file is cut into chunks of whole lines with obj_chunk_number or obj_chunk_size; obj_newline is the "new
# line character for keeping line integrity of partitions".
#
# Expected: the chunks, one after another, are the file, whether or not its last line ends in a newline. (What
# writes JSON or CSV with a join leaves no newline at the end.)
# Seen: of a file without a newline at its end, the last chunk lacks the last character. Readings 100000 to
# 139999, one a line, in three chunks: the last is read as 13999. With a newline at the end all is there, and so
# it is in one chunk. A number stays a number, so nothing fails.
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


def readings(obj):
    return [int(line) for line in obj.data_stream.read().decode().split("\n") if line]


if __name__ == "__main__":
    path = Path(sys.argv[1], "readings.txt")
    wanted = list(range(100_000, 140_000))
    last = {}
    with lithops.FunctionExecutor(config=CONFIG, log_level="ERROR") as executor:
        for end in ("", "\n"):
            path.write_text("\n".join(map(str, wanted)) + end)
            for chunks in (1, 3):
                parts = executor.get_result(executor.map(readings, [str(path)], obj_chunk_number=chunks))
                got = sum(parts, [])
                assert len(parts) == chunks and got[:-1] == wanted[:-1]
                last[end, chunks] = got[-1]
                print(f"newline at the end: {bool(end)}, chunks: {chunks}, readings: {len(got)}, last: {got[-1]}")
    assert last["", 1] == last["\n", 1] == last["\n", 3] == 139_999
    assert last["", 3] == 13_999, f"{last['', 3]}: mended"
PY
# On a busy machine a wait of Lithops' client sometimes does not end; that is not the point here.
for _ in 1 2 3; do
    seen=0
    timeout -k 10 150 python "$work/seen.py" "$work" || seen=$?
    [ "$seen" = 124 ] || break
done
[ "$seen" = 0 ]
echo "seen as stated"
