#!/usr/bin/env bash
# gracehpc 0.1.0 (PyPI), Python 3.11
#
# GRACE-HPC estimates energy, carbon and cost of Slurm jobs from what sacct prints. Up to Slurm 20.11 the field
# ReqMem ends in `n` for memory per node, or in `c` for memory per core; gracehpc knows both.
#
# Expected: one hour on four nodes with 64 GB each ("64Gn") is 256 GB, and 0.095 kWh of memory.
# Seen: 64,646,464 GB, 24 MWh, 3 t of CO2 and 6020 pounds. The number is multiplied by the nodes while it is still
# text ("64" four times), and becomes a number afterwards. On one node all is right; so it is for memory per core.
#
# sacct is a stand-in that prints two jobs in its format. Of the packages that gracehpc asks for, Jupyter's servers
# are left out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.3.1 pandas==2.3.1 pytz==2025.2 pyyaml==6.0.2 \
  requests==2.32.4 rich==14.0.0 ipython==9.4.0 ipywidgets==8.1.7 plotly==6.2.0
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps gracehpc==0.1.0
cat >"$work/venv/bin/sacct" <<'SH'
#!/bin/sh
cat <<'LINES'
UID|User|Partition|JobID|JobName|Submit|State|Elapsed|AllocTRES|NNodes|NCPUS|TotalCPU|CPUTime|ReqMem|MaxRSS|WorkDir|ConsumedEnergyRaw
1001|ada|batch|71|one|2026-03-02T10:00:00|COMPLETED|01:00:00|cpu=8,mem=64G,node=1|1|8|08:00:00|08:00:00|64Gn||/home/ada|0
1001|ada|batch|72|four|2026-03-02T12:00:00|COMPLETED|01:00:00|cpu=32,mem=256G,node=4|4|32|1-08:00:00|1-08:00:00|64Gn||/home/ada|0
LINES
SH
chmod +x "$work/venv/bin/sacct"
export PATH="$work/venv/bin:$PATH" HOME="$work"
cd "$work"
cat >hpc_config.yaml <<'YAML'
hpc_system: "example"
partitions:
  batch: {processor: CPU, processor_name: "example", TDP: 5}
PUE: 1.0
electricity_cost: 0.25
YAML
gracehpc run --StartDate 2026-03-01 --EndDate 2026-03-03 --CSV full >report.txt
grep "Memory Requested" report.txt
python - <<'PY'
import csv

one, four = csv.DictReader(open("full_job_data.csv", encoding="utf-8"))
SHOWN = ("RequestedMemoryGB", "memory_energy_estimated_kwh", "Cost_GBP")
for job in (one, four):
    print(f"{job['TotalNodes']} x 64 GB, 1 h:", *(f"{name} {float(job[name]):.3f}" for name in SHOWN))
assert float(one["RequestedMemoryGB"]) == 64, one
assert float(four["RequestedMemoryGB"]) == 64_646_464, f"{four['RequestedMemoryGB']}: mended"
assert float(four["memory_energy_estimated_kwh"]) > 24_000, four
PY
echo "seen as stated"
