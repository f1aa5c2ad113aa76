#!/usr/bin/env bash
# codecarbon 3.3.2 (PyPI), Python 3.11
#
# A tracker may be started with start() and have tasks in it (start_task, stop_task): the tasks isolate their
# share, and stop() gives duration, energy and emissions of the whole.
#
# Expected: 4 s of work, then a task of 1 s, at a constant 120 W: the task has 120 J, the whole 600 J and 5 s.
# Seen: the task is right, and the whole is the task: 120 J and 1 s. start_task() sets the time of the last
# measurement, and the start of the run, to now: all since the last periodic measurement (every 15 s by default)
# is gone, and so is each stretch between two tasks. With measure_power_secs=1 most energy is kept, and the
# duration is still that of the last task, so that energy over duration is 480 W on a machine of 120 W;
# emissions_rate is wrong by the same factor. No warning.
#
# Powers are constant (force_cpu_power, force_ram_power), the country is given, nothing is sent or saved.
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
        assert 100 < of_task.energy_consumed * 3.6e6 < 150
    else:
        time.sleep(1)
    tracker.stop()
    whole = tracker.final_emissions_data
    joules = whole.energy_consumed * 3.6e6
    watts = whole.emissions_rate / whole.emissions * joules
    name = f"{'with' if task else 'without'} a task, {options or 'defaults'}"
    print(f"{name}: {whole.duration:.1f} s, {joules:.0f} J, rate as of {watts:.0f} W", flush=True)
    return whole.duration, joules


duration, joules = run(task=False)
assert duration > 4.8 and 540 < joules < 720, "without a task the whole is right"
duration, joules = run(task=True)
assert duration < 2 and joules < 200, "the work before the task is counted: mended"
duration, joules = run(task=True, measure_power_secs=1)
assert duration < 2 and joules > 400, "the duration is that of the whole run: mended"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
