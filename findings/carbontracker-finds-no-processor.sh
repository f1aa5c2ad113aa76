#!/usr/bin/env bash
# carbontracker 2.4.7 (PyPI), Python 3.11
#
# Where no counter can be read, carbontracker looks the processor up in its table of nearly 4000 names with
# their TDP, and takes half of it as the power. The name is what py-cpuinfo reads from /proc/cpuinfo.
#
# Expected: processors that are in the table are found by the name that Linux gives them.
# Seen: they are not. Linux says "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz" and "AMD EPYC 7742 64-Core Processor",
# the table says "Intel Core i7-8700" and "AMD EPYC 7742", and it is the name with all its marks that is sought
# within those of the table. Each gets half the mean of the table, 35.6 W, with a warning that nothing matched. A
# bare "AMD EPYC", which virtual machines have, is found, though: it is taken for the first EPYC of the table, 120
# W.
#
# The names are given to carbontracker in place of this machine's.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check carbontracker==2.4.7
cat >"$work/seen.py" <<'PY'
import cpuinfo
from carbontracker.components.cpu.generic import GenericCPU

KNOWN = {
    "Intel Core i7-8700": "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz",
    "Intel Xeon Gold 6130": "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz",
    "AMD EPYC 7742": "AMD EPYC 7742 64-Core Processor",
    "AMD Ryzen 7 5800X": "AMD Ryzen 7 5800X 8-Core Processor",
}


def found(name):
    cpuinfo.get_cpu_info = lambda: {"brand_raw": name}
    cpu = GenericCPU(pids=[], devices_by_pid=False)
    tdp = cpu.find_matching_tdp()
    cpu.init()
    return tdp, cpu.power_usage()[0], cpu


for short, brand in KNOWN.items():
    in_table, _, cpu = found(short)
    tdp, watts, _ = found(brand)
    print(f"{brand}: table {in_table} W, found {tdp}, power {watts:.1f} W")
    assert in_table, f"{short} is not in the table"
    assert tdp is None and watts == cpu.average_tdp, "the processor is found: mended"
tdp, watts, _ = found("AMD EPYC")
print(f"AMD EPYC: found {tdp} W, power {watts:.1f} W")
assert tdp == 120, "a bare name is no processor: mended"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
