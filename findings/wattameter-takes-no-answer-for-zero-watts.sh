#!/usr/bin/env bash
# wattameter 0.9.3 with nvidia-ml-py 13.615.71 (PyPI), Python 3.11
#
# wattameter reads the power of a GPU by nvmlDeviceGetFieldValues (field NVML_FI_DEV_POWER_INSTANT) where the Python
# package knows that field, and else by nvmlDeviceGetPowerUsage. NVML answers for each field on its own: the call
# succeeds, and `nvmlReturn` beside each value says whether there is one.
#
# Expected: with a driver or a GPU that lacks the field, the power that nvmlDeviceGetPowerUsage gives, or none.
# Seen: 0 mW in every line, without a message. That the Python package knows the name says nothing of the driver
# (recent packages have it, older drivers do not), `nvmlReturn` is not looked at, and the other
# call, which gives 250 W, is never made. Energies that are reckoned from the log are 0.
#
# NVML is a stand-in that answers as one without that field does. Needs a C compiler.
set -euo pipefail
command -v cc >/dev/null || { echo "needs a C compiler" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check wattameter==0.9.3 nvidia-ml-py==13.615.71
cat >"$work/nvml.c" <<'C'
#include <stdint.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3 };
struct field {
    uint32_t id, scope;
    int64_t timestamp, latency;
    uint32_t type, result;
    uint64_t value;
};
static int gpu;

int nvmlInitWithFlags(unsigned flags) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &gpu; return SUCCESS; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 250000; return SUCCESS; }
int nvmlDeviceGetFieldValues(void *device, int count, struct field *fields)
{
    for (int i = 0; i < count; i++)
        fields[i].result = NOT_SUPPORTED;
    return SUCCESS;
}
C
cc -shared -fPIC -o "$work/libnvidia-ml.so.1" "$work/nvml.c"
export LD_LIBRARY_PATH="$work"
cat >"$work/seen.py" <<'PY'
import logging, sys

import pynvml
from wattameter.readers import NVMLReader, Power

messages = []
logging.getLogger().addHandler(logging.Handler())
logging.getLogger().handlers[0].emit = lambda record: messages.append(record.getMessage())
logging.getLogger().setLevel(logging.WARNING)
reader = NVMLReader((Power,))
read = reader.read()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
field = pynvml.nvmlDeviceGetFieldValues(gpu, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
usage = pynvml.nvmlDeviceGetPowerUsage(gpu)
print(f"{reader.tags[0]}: {read[0]}, messages: {messages}")
print(f"nvmlReturn beside the value: {field.nvmlReturn} (not supported); nvmlDeviceGetPowerUsage: {usage} mW")
assert field.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED and usage == 250_000
assert reader.tags == ["gpu-0[mW]"] and read == [0] and not messages, f"{read}, {messages}: mended"
PY
"$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
