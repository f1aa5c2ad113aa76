#!/usr/bin/env bash
# Lithops 3.8.0 (PyPI), Python 3.11, localhost backend and storage
#
# map_reduce(timeout=...): "Time that the functions have to complete their execution before raising a timeout".
#
# Expected: with timeout=2 a reduce function that takes 6 s is killed, as a map function is.
# Seen: the reduce function runs its 6 s and gives its result. The timeout reaches the map stage only; the reduce
# stage has the execution_timeout of the configuration (3600 s here). A budget per call, of time or of joules,
# that is reckoned from `timeout` does not hold for the reducer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check lithops==3.8.0
# Everything that Lithops writes goes into the temporary folder.
export PATH="$work/venv/bin:$PATH" HOME="$work" TMPDIR="$work"
cat >"$work/seen.py" <<'PY'
import time

import lithops

CONFIG = {"lithops": {"backend": "localhost", "storage": "localhost"}}


def same(value):
    return value


def slow(value):
    time.sleep(6)
    return value


def slow_sum(results):
    time.sleep(6)
    return sum(results)


def outcome(executor, submit):
    try:
        return executor.get_result(submit())
    except TimeoutError as error:
        return f"TimeoutError: {error}"


if __name__ == "__main__":
    with lithops.FunctionExecutor(config=CONFIG, log_level="CRITICAL") as executor:
        in_map = outcome(executor, lambda: executor.map_reduce(slow, [1, 2], slow_sum, timeout=2))
    with lithops.FunctionExecutor(config=CONFIG, log_level="CRITICAL") as executor:
        futures = executor.map_reduce(same, [1, 2], slow_sum, timeout=2)
        in_reduce = outcome(executor, lambda: futures)
    print("map of 6 s, timeout 2:", in_map)
    print("reduce of 6 s, timeout 2:", in_reduce, "- timeouts of the futures:", [f.execution_timeout for f in futures])
    assert str(in_map).startswith("TimeoutError"), in_map
    assert in_reduce == 3, f"{in_reduce}: mended"
    assert futures[0].execution_timeout == 2 and futures[-1].execution_timeout > 60
PY
# On a busy machine a wait of Lithops' client sometimes does not end; that is not the point here.
for _ in 1 2 3; do
    seen=0
    timeout -k 10 150 python "$work/seen.py" "$work" || seen=$?
    [ "$seen" = 124 ] || break
done
[ "$seen" = 0 ]
echo "seen as stated"
