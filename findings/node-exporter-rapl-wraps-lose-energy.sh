#!/usr/bin/env bash
# prometheus-node-exporter 1.5.0-1+b6, prometheus 2.42.0+ds-5+deb12u1 (Debian 12)
#
# node_exporter gives RAPL's energy as node_rapl_package_joules_total, of the type counter. Of increase() and rate()
# Prometheus says: "Breaks in monotonicity (such as counter resets due to target restarts) are automatically adjusted
# for."
#
# Expected: a package of 250 W that is scraped once a minute has used 0.9 MJ in an hour.
# Seen: 0.80 MJ. The counter begins again at 0 when it reaches max_energy_range_uj, here 65.5 kJ as on AMD's and
# some servers' packages, so every 4.4 minutes. node_exporter hands on the bare number and not its range; Prometheus
# takes the wrap for a restart at 0 and drops what was counted between the last scrape and the wrap: half a scrape
# interval's energy each time. It grows with the power: 500 W lose twice the share.
#
# node_exporter reads a made-up tree, each of its answers is stored with the time it stands for, and Prometheus is
# asked for them, all on this machine.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq prometheus-node-exporter=1.5.0-1+b6 prometheus=2.42.0+ds-5+deb12u1 2>/dev/null
for package in ./*.deb; do dpkg-deb -x "$package" package; done
cat >seen.py <<'PY'
import contextlib
import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

WATTS, STEP, HOUR, RANGE = 250, 60, 3600, 65_532_610_987
BEGIN = 1_700_000_000
SERIES = "node_rapl_package_joules_total"


def get(address):
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)


@contextlib.contextmanager
def running(program, *options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(f"{program}.log", "w")
    listen = f"--web.listen-address=127.0.0.1:{port}"
    process = subprocess.Popen([f"package/usr/bin/{program}", listen, *options], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


zone = Path("sys/class/powercap/intel-rapl:0")
zone.mkdir(parents=True)
(zone / "name").write_text("package-0\n")
(zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
lines = [f"# TYPE {SERIES.removesuffix('_total')} counter"]
with running("prometheus-node-exporter", "--path.sysfs=sys", "--collector.disable-defaults", "--collector.rapl") as exporter:
    for second in range(0, HOUR + STEP, STEP):
        (zone / "energy_uj").write_text(f"{second * WATTS * 10**6 % RANGE}\n")
        answer = get(f"{exporter}/metrics")
        assert f"# TYPE {SERIES} counter" in answer
        (sample,) = (line for line in answer.splitlines() if line.startswith(SERIES))
        lines.append(f"{sample} {BEGIN + second}")
Path("samples").write_text("\n".join([*lines, "# EOF\n"]))
promtool = ["package/usr/bin/promtool", "tsdb", "create-blocks-from", "openmetrics", "samples", "data"]
subprocess.run(promtool, check=True, stdout=subprocess.DEVNULL)
Path("prometheus.yml").write_text("scrape_configs: []\n")
keep = "--storage.tsdb.retention.time=100y"
with running("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", keep) as prometheus:
    get(f"{prometheus}/-/ready")
    # A second more than the hour, so that both ends are in it; the energy is that of the samples then.
    query = {"query": f"increase({SERIES}[{HOUR + 1}s])", "time": BEGIN + HOUR}
    answer = json.loads(get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode(query)}"))
joules = float(answer["data"]["result"][0]["value"][1])
print(f"used {WATTS * HOUR} J, {HOUR * WATTS * 10**6 // RANGE} wraps; increase() says {joules:.0f} J")
assert 0.8 * WATTS * HOUR < joules < 0.93 * WATTS * HOUR, "what was used before a wrap is counted: mended"
PY
python3 seen.py
echo "seen as stated"
