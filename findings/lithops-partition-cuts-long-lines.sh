#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost backend and storage
#
# A text file is cut into chunks of whole lines with obj_chunk_number or obj_chunk_size; obj_newline is the "new
# line character for keeping line integrity of partitions". No limit on the length of a line is documented.
#
# Expected: four runs as JSON lines of 600,021 bytes each (a run with its 120,000 samples of power), cut into
# three chunks, are four lines of JSON, each in one chunk.
# Seen: a chunk reads 128 KiB past its end to complete its last line, and keeps what it has if the line is longer.
# Run 1 is cut after 200,007 bytes, run 2 after 400,015; of both the rest is in no chunk. No error and no message:
# JSON notices, a line of comma-separated numbers or a sum over split(",") does not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check lithops==3.8.0
# Everything that Lithops writes goes into the temporary folder.
export PATH="$work/venv/bin:$PATH" HOME="$work" TMPDIR="$work"
cat >"$work/seen.py" <<'PY'
import json, sys
from pathlib import Path

import lithops

CONFIG = {"lithops": {"backend": "localhost", "storage": "localhost"}}


def lengths(obj):
    return [len(line) for line in obj.data_stream.read().split(b"\n") if line]


if __name__ == "__main__":
    path = Path(sys.argv[1], "runs.jsonl")
    path.write_text("".join(json.dumps({"run": run, "watts": [100 + run] * 120_000}) + "\n" for run in range(4)))
    seen = {}
    with lithops.FunctionExecutor(config=CONFIG, log_level="ERROR") as executor:
        for chunks in (1, 2, 3):
            seen[chunks] = executor.get_result(executor.map(lengths, [str(path)], obj_chunk_number=chunks))
            print(chunks, "chunks, bytes of each line:", seen[chunks], "of", path.stat().st_size - 4)
    assert sum(seen[1], []) == sum(seen[2], []) == [600_021] * 4
    assert sum(map(sum, seen[3])) < path.stat().st_size - 4, "every byte of every line is in a chunk: mended"
    assert seen[3] == [[600_021, 200_007], [400_015], [600_021]], seen[3]
PY
# On a busy machine a wait of Lithops' client sometimes does not end; that is not the point here.
for _ in 1 2 3; do
    seen=0
    timeout -k 10 150 python "$work/seen.py" "$work" || seen=$?
    [ "$seen" = 124 ] || break
done
[ "$seen" = 0 ]
echo "seen as stated"
