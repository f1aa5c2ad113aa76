#!/usr/bin/env bash
# ai-energymeter 2.0.2 with nvidia-ml-py 13.615.71 (PyPI), Python 3.11
#
# EnergyMeter samples power and utilization of a GPU. include_idle: "if energy used during idle times should be
# included for disk and GPU", False by default.
#
# Expected: a GPU that is busy for 1 s, idle for 3 s and busy for 1 s, at 200 and 20 W, used 400 J while it was
# busy, and 460 J in all. Without idle times it is the smaller of the two.
# Seen: 460 J with idle times and about 1000 J without. The samples of idle times are taken out, and the rest is
# integrated over its times as if it were one stretch: the idle time in between counts with the power of busy
# times. With one busy stretch all is right. A training that waits for its data has many.
#
# NVML is a stand-in whose GPU follows the clock. Needs a C compiler.
set -euo pipefail
command -v cc >/dev/null || { echo "needs a C compiler" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.3.4 pandas==2.3.3 matplotlib==3.10.7 \
  pyrapl==0.2.3.1 nvidia-ml-py==13.615.71
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps ai-energymeter==2.0.2
cat >"$work/nvml.c" <<'C'
#include <time.h>

static double start;
static int gpu;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}
static int busy(void)
{
    if (!start)
        start = now();
    double seconds = now() - start;
    return seconds < 1 || seconds > 4;
}
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &gpu; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = busy() ? 200000 : 20000; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, unsigned *percent)
{
    percent[0] = percent[1] = busy() ? 90 : 0;
    return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { *celsius = 50; return 0; }
C
cc -shared -fPIC -o "$work/libnvidia-ml.so.1" "$work/nvml.c"
export LD_LIBRARY_PATH="$work"
cat >"$work/seen.py" <<'PY'
import contextlib, io, logging, time

logging.disable(logging.CRITICAL)

from energymeter import EnergyMeter  # noqa: E402

with contextlib.redirect_stdout(io.StringIO()):  # it says that there is no RAPL, which is not looked at
    meter = EnergyMeter(ignore_disk=True)
    meter.begin()
    time.sleep(5)
    meter.end()
assert meter.include_idle is False
without_idle = meter.get_total_joules_gpu()
meter.include_idle = True
with_idle = meter.get_total_joules_gpu()
print(f"with idle times: {with_idle:.0f} J, of 460; without: {without_idle:.0f} J, of 400")
assert 420 < with_idle < 500, with_idle
assert without_idle > 900, f"{without_idle}: mended"
PY
"$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
