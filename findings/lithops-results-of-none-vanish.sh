#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost backend and storage
#
# map(): "A list with size len(map_iterdata) of futures"; get_result() gives "the result of the future/s".
#
# Expected: a function that returns None for the second of three inputs gives [10, None, 30]. A step that only
# writes files and returns nothing gives [None, None, None].
# Seen: get_result() leaves out every call that returned None: [10, 30] and [], although there are three futures,
# all of them done and without an error. zip(inputs, results) then pairs results with the wrong inputs, in
# silence. The same call through its own future gives None: [future.result() for future in futures] keeps the
# order.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check lithops==3.8.0
# Everything that Lithops writes goes into the temporary folder.
export PATH="$work/venv/bin:$PATH" HOME="$work" TMPDIR="$work"
cat >"$work/seen.py" <<'PY'
import lithops

CONFIG = {"lithops": {"backend": "localhost", "storage": "localhost"}}


def tenfold_of_odd(number):
    return number * 10 if number % 2 else None


def writes_only(number):
    pass


if __name__ == "__main__":
    with lithops.FunctionExecutor(config=CONFIG, log_level="ERROR") as executor:
        futures = executor.map(tenfold_of_odd, [1, 2, 3])
        results = executor.get_result(futures)
        single = [future.result() for future in futures]
        nothing = executor.get_result(executor.map(writes_only, [1, 2, 3]))
    print("futures", len(futures), [future.done and not future.error for future in futures])
    print("get_result", results)
    print("each future", single)
    print("get_result of a function without a result", nothing)
    assert len(futures) == 3 and single == [10, None, 30], single
    assert results == [10, 30], f"{results}: mended"
    assert nothing == [], f"{nothing}: mended"
PY
# On a busy machine a wait of Lithops' client sometimes does not end; that is not the point here.
for _ in 1 2 3; do
    seen=0
    timeout -k 10 150 python "$work/seen.py" "$work" || seen=$?
    [ "$seen" = 124 ] || break
done
[ "$seen" = 0 ]
echo "seen as stated"
