#!/usr/bin/env bash
# zeus 0.16.0 (PyPI), Python 3.11
#
# ZeusMonitor on a machine with RAPL and no GPU. Measurement.total_energy: "Total energy consumed (in Joules)
# during the measurement window"; log_file: the "path to the log CSV file" of the measurements.
#
# Expected: total_energy is the energy that was measured, 20 J of the package, or is missing; the log has it in a
# column.
# Seen: cpu_energy has the 20 J, total_energy is 0, an int and no missing value; the log has three columns, a
# fourth one without a name because of a comma at the end of each line, and no energy. The class's first line does
# say "Measure the GPU energy"; that CPU energy is measured, by default, and kept out of both is easy to miss, and
# 0 looks measured.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check zeus==0.16.0
cat >"$work/seen.py" <<'PY'
import csv, sys, time
from pathlib import Path


def main():
    import zeus.device.cpu.rapl as rapl
    from zeus.monitor import ZeusMonitor

    zone = Path(sys.argv[1], "intel-rapl", "intel-rapl:0")
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text("1000000000\n")
    rapl.RAPL_DIR = str(zone.parent)
    log = Path(sys.argv[1], "log.csv")
    monitor = ZeusMonitor(log_file=log)
    monitor.begin_window("work")
    time.sleep(0.5)
    (zone / "next").write_text("1020000000\n")
    (zone / "next").rename(zone / "energy_uj")
    measurement = monitor.end_window("work")
    header, row = csv.reader(log.open())
    print("cpu_energy", measurement.cpu_energy, "total_energy", repr(measurement.total_energy))
    print("log", header, row)
    assert measurement.cpu_energy == {0: 20.0}, measurement.cpu_energy
    assert measurement.total_energy == 0, "the total has the CPU's energy: mended"
    assert header == ["start_time", "window_name", "elapsed_time", ""] and row[3:] == [""], "mended"


if __name__ == "__main__":
    main()
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
