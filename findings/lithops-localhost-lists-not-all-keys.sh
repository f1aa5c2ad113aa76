#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost storage
#
# Storage.list_keys(bucket, prefix) "returns all of the object keys in a bucket", or those that begin with the prefix.
#
# Expected: with the prefix "sort[512MB]/" the keys that begin so; an object that get_object() finds is in the list.
# Seen: the prefix is taken for a pattern, and what begins with a dot is hidden, as in a shell:
#   prefix "sort[512MB]/"         none of its own two objects, but one of "sort5/": [512MB] stands for one character
#   keys such as "sort/.parts/1"  in no list, unless the prefix itself names the part with the dot
# list_objects() is the same. On S3 and other stores of objects these characters mean nothing.
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

logging.disable(logging.CRITICAL)
storage = lithops.Storage(config={"lithops": {"backend": "localhost", "storage": "localhost"}})
PLAIN, OTHER, HIDDEN = "sort/1.json", "sort5/1.json", "sort/.parts/1.json"
BRACKETS = ["sort[512MB]/1.json", "sort[512MB]/2.json"]
for key in (PLAIN, OTHER, HIDDEN, *BRACKETS):
    storage.put_object("profiles", key, b"{}")
    assert storage.get_object("profiles", key) == b"{}"
listed = {prefix: sorted(storage.list_keys("profiles", prefix)) for prefix in (None, "sort/", "sort[512MB]/")}
for prefix, keys in listed.items():
    print(f"{prefix or 'the whole bucket'}: {keys}")
assert listed["sort[512MB]/"] == [OTHER], "a prefix with brackets is one: mended"
assert listed["sort/"] == [PLAIN], "keys with a dot are listed: mended"
assert listed[None] == sorted([PLAIN, OTHER, *BRACKETS]), "mended"
assert [item["Key"] for item in storage.list_objects("profiles", "sort[512MB]/")] == [OTHER], "mended"
PY
cd "$work"
python3 "$work/seen.py"
echo "seen as stated"
