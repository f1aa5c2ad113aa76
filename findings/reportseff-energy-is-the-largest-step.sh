#!/usr/bin/env bash
# reportseff 2.10.3 (PyPI), Python 3.11
#
# reportseff shows the efficiency of Slurm's jobs, one line each; its column Energy is to be "The energy usage for the
# job" (docstring).
#
# Expected: the energy that Slurm's accounting has for the job, which reportseff can show in the next column:
# ConsumedEnergyRaw, 890 kJ.
# Seen: 120000. Energy is taken from TRESUsageOutAve, the average of a step's tasks, where TRESUsageOutTot would be
# their sum, and of the steps the largest is taken, not their sum. Here two steps ran one task on each of four nodes:
# a seventh of the job's energy is shown. With one step of one task both columns agree. A user of an earlier version
# has reported an Energy of 794 beside a ConsumedEnergyRaw of 101630.
#
# sacct and scontrol are stand-ins that print what Slurm prints.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check reportseff==2.10.3
mkdir "$work/slurm"
cat >"$work/slurm/sacct" <<'PY'
#!/usr/bin/env python3
import sys

FIELDS = ("AdminComment", "ConsumedEnergyRaw", "JobID", "JobIDRaw", "NTasks", "State", "TRESUsageOutAve")
STEPS = {
    # step: joules of the step, tasks
    "100": (890_000, ""),
    "100.batch": (10_000, 1),
    "100.0": (400_000, 4),
    "100.1": (480_000, 4),
    "200": (50_000, ""),
    "200.batch": (50_000, 1),
}
arguments = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
if "--helpformat" in arguments:
    print(*FIELDS)
    sys.exit()
for step, (joules, tasks) in STEPS.items():
    row = dict.fromkeys(FIELDS, "") | {"ConsumedEnergyRaw": joules, "State": "COMPLETED", "NTasks": tasks}
    row["JobID"] = row["JobIDRaw"] = step
    if tasks:
        row["TRESUsageOutAve"] = f"energy={joules // tasks},fs/disk=4096"
    asked = arguments["--format"].split(",")
    print(*(row[field] for field in asked), "", sep=arguments["--delimiter"])
PY
printf '#!/bin/sh\necho "PartitionName=all MaxTime=1-00:00:00"\n' >"$work/slurm/scontrol"
chmod +x "$work/slurm/sacct" "$work/slurm/scontrol"
export PATH="$work/slurm:$PATH"
shown=$("$work/venv/bin/reportseff" --no-color --format JobID,State,Energy,ConsumedEnergyRaw 100 200)
echo "$shown"
row() { awk -v job="$1" '$1 == job { print $3, $4 }' <<<"$shown"; }
[ "$(row 200)" = "50000 50000" ] || { echo "one step of one task: $(row 200)"; exit 1; }
[ "$(row 100)" = "120000 890000" ] || { echo "steps and tasks: $(row 100), mended?"; exit 1; }
echo "seen as stated"
