#!/usr/bin/env bash
# codecarbon 3.3.2 (PyPI), Python 3.11
#
# A tracker may be started with start() and have tasks in it (start_task, stop_task): the tasks isolate their
# share, and stop() gives duration, energy and emissions of the whole.
#
# Expected: 4 s of work, then a task of 1 s. Of the memory, which is reckoned at a constant 20 W, the task has 20
# J and the whole 100 J, in 5 s.
# Seen: the task is right, and the whole is the task: 20 J and 1 s. start_task() sets the time of the last
# measurement, and the start of the run, to now: all since the last periodic measurement (every 15 s by default)
# is gone. With measure_power_secs=1 most energy is kept, and the duration is still that of the last task, so that
# energy over duration is 80 W for a memory of 20 W; emissions_rate, which is reckoned so, is wrong with it. The
# CPU goes the same way. No warning.
#
# The memory is looked at since its power (force_ram_power) does not depend on load. The country is given, nothing
# is saved.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check codecarbon==3.3.2
cat >"$work/seen.py" <<'PY'
import time

from codecarbon import OfflineEmissionsTracker


def run(task, **options):
    tracker = OfflineEmissionsTracker(
        country_iso_code="ESP",
        save_to_file=False,
        allow_multiple_runs=True,
        force_cpu_power=100,
        force_ram_power=20,
        log_level="critical",
        **options,
    )
    tracker.start()
    time.sleep(4)
    if task:
        tracker.start_task("task")
        time.sleep(1)
        of_task = tracker.stop_task("task")
        assert 18 < of_task.ram_energy * 3.6e6 < 25, "the task is right"
    else:
        time.sleep(1)
    tracker.stop()
    whole = tracker.final_emissions_data
    joules = whole.ram_energy * 3.6e6
    name = f"{'with' if task else 'without'} a task, {options or 'defaults'}"
    print(f"{name}: {whole.duration:.1f} s, memory {joules:.0f} J", flush=True)
    assert abs(whole.emissions_rate * whole.duration / whole.emissions - 1) < 0.01
    return whole.duration, joules


duration, joules = run(task=False)
assert duration > 4.8 and 90 < joules < 120, "without a task the whole is right"
duration, joules = run(task=True)
assert duration < 2 and joules < 35, "the work before the task is counted: mended"
duration, joules = run(task=True, measure_power_secs=1)
assert duration < 2 and joules > 65, "the duration is that of the whole run: mended"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
