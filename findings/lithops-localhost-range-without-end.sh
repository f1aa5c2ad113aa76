#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost storage
#
# Storage.get_object(extra_get_args={"Range": ...}) reads a part of an object. An HTTP range may leave out its end
# ("bytes=5-": from byte 5 on) or its begin ("bytes=-3": the last 3 bytes); with S3 both work.
#
# Expected: the rest of the object, or an error that says that such a range cannot be read.
# Seen: StorageNoSuchKeyError, "No such key … found in storage", for an object that is there: whoever takes that for
# "not written yet" waits for it, or writes it again. Every error while reading becomes this one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check lithops==3.8.0
# Everything that Lithops writes goes into the temporary folder.
export PATH="$work/venv/bin:$PATH" HOME="$work" TMPDIR="$work"
cat >"$work/seen.py" <<'PY'
import logging

import lithops
from lithops.storage.utils import StorageNoSuchKeyError

logging.disable(logging.CRITICAL)
storage = lithops.Storage(config={"lithops": {"backend": "localhost", "storage": "localhost"}})
storage.put_object("traces", "power.csv", b"0123456789")
seen = {}
for wanted in ("bytes=0-3", "bytes=5-", "bytes=-3"):
    try:
        seen[wanted] = storage.get_object("traces", "power.csv", extra_get_args={"Range": wanted})
    except StorageNoSuchKeyError as error:
        seen[wanted] = str(error)
    print(wanted, seen[wanted])
assert seen["bytes=0-3"] == b"0123"
assert "No such key" in seen["bytes=5-"] and "No such key" in seen["bytes=-3"], "mended"
assert storage.get_object("traces", "power.csv") == b"0123456789"
PY
cd "$work"
python3 "$work/seen.py"
echo "seen as stated"
