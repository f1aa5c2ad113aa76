#!/usr/bin/env bash
# codecarbon 3.3.2 (PyPI), Python 3.11
#
# codecarbon reckons the power of memory from its size: from what Slurm has allocated in a job, else from the
# machine's memory.
#
# Expected: power that grows with the memory, or stays.
# Seen, on x86: 70 W for a job with 250 GB and 38 W for one with 256 GB, which is what 128 GB have, too; 500 and 512 GB
# have the same two powers. Above 128 GB the size of a module is guessed as the largest of 4, 8, 16 … 128 GB of which
# there are at least eight, and their number from that: 250 GB are 16 modules of 16 GB, 256 GB 8 modules of 32 GB, and
# a module has about the same power whatever its size. Outside Slurm a machine that is sold with 256 GB is on the
# dearer side: the kernel keeps some, and 251 are left.
#
# scontrol is a stand-in that prints what Slurm prints of a job.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check codecarbon==3.3.2
mkdir "$work/slurm"
cat >"$work/slurm/scontrol" <<'SH2'
#!/bin/sh
echo "JobId=$SLURM_JOB_ID JobName=job"
echo "   NumNodes=1 NumCPUs=32 NumTasks=1 CPUs/Task=32"
echo "   AllocTRES=cpu=32,mem=${GIGABYTES}G,node=1,billing=32"
SH2
chmod +x "$work/slurm/scontrol"
cat >"$work/seen.py" <<'PY'
from codecarbon import OfflineEmissionsTracker

tracker = OfflineEmissionsTracker(country_iso_code="FRA", save_to_file=False, log_level="critical", allow_multiple_runs=True)
tracker.start()
tracker.stop()
print(f"{tracker.final_emissions_data.ram_power:.0f}")
PY
cd "$work"
export PATH="$work/slurm:$PATH" HOME="$work" SLURM_JOB_ID=1
seen=
for gigabytes in 128 250 256 500 512; do
    watts=$(GIGABYTES=$gigabytes "$work/venv/bin/python" seen.py 2>log) || { cat log >&2; exit 1; }
    echo "$gigabytes GB: $watts W"
    seen+=" $watts"
done
[ "$seen" = " 38 70 38 70 38" ] || { echo "mended?"; exit 1; }
echo "seen as stated"
