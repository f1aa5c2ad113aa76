#!/usr/bin/env bash
# zeus 0.16.0 (PyPI), Python 3.11
#
# ZeusMonitor measures GPUs and, from RAPL, CPU packages. RAPL counters wrap; zeus watches each in a process of
# its own and adds the counter's range for each wrap.
#
# Expected: a window in which the counter wraps has the energy used, 1.3 J here, or is marked.
# Seen: the watching process looks once a second (ten times near the end of the range). A window that is closed
# before it has looked has -262142 J; a window that is open when it looks gets the 262143 J that the other lacks.
# Both are given without a warning, and a sum or mean over windows of some ms, as benchmarks have them, takes them
# in.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check zeus==0.16.0
cat >"$work/seen.py" <<'PY'
import sys, time
from pathlib import Path

RANGE = 262_143_328_850


def main():
    import zeus.device.cpu.rapl as rapl
    from zeus.monitor import ZeusMonitor

    zone = Path(sys.argv[1], "intel-rapl", "intel-rapl:0")
    zone.mkdir(parents=True)

    def count(microjoules):
        (zone / "next").write_text(f"{microjoules}\n")
        (zone / "next").rename(zone / "energy_uj")

    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
    count(RANGE - 400_000_000)
    rapl.RAPL_DIR = str(zone.parent)
    monitor = ZeusMonitor(gpu_indices=[], cpu_indices=[0])
    monitor.begin_window("first use starts the watching process")
    time.sleep(3)
    monitor.end_window("first use starts the watching process")
    joules = []
    for attempt in range(3):
        count(RANGE - 300_000_000)
        time.sleep(1.5)  # it has looked since, and will look again within a second
        monitor.begin_window("wraps")
        count(1_000_000)
        joules.append(monitor.end_window("wraps").cpu_energy[0])
        monitor.begin_window("follows")
        time.sleep(1.5)
        count(2_000_000)
        joules.append(monitor.end_window("follows").cpu_energy[0])
        print(f"window with the wrap: {joules[-2]:.1f} J, used 301 J; window after it: {joules[-1]:.1f} J, used 1 J")
    assert min(joules) < -260_000, "a window with a wrap is never negative: mended"
    assert max(joules) > 260_000, "no other window has the range of the counter added: mended"


if __name__ == "__main__":
    main()
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
