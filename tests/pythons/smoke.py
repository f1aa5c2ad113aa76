"""What a wheel has to do wherever it is installed: import, meter, find its counters, have its hook.

    python tests/pythons/smoke.py

From another folder than the checkout's, by the Python of the environment that has the wheel.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import lithops_patch  # noqa: F401 - it can be imported
from lithowatt import EnergyMeter, measure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "rig"))
from rig import StaticTree


def known_joules() -> None:
    """Counters that rise by 2 J (package) and 0.5 J (memory) within the window."""
    with tempfile.TemporaryDirectory() as folder, StaticTree(folder) as tree:
        with EnergyMeter(root=tree.root) as meter:
            sum(range(1_000_000))
            tree.add("package-0", 2_000_000)
            tree.add("package-0/dram", 500_000)
            time.sleep(0.1)
        domains = meter.reading.rapl
    assert (domains.package, domains.dram) == (2.0, 0.5), meter.reading


def main() -> int:
    """Runs it all; an assertion says what is wrong."""
    with EnergyMeter() as meter:
        sum(range(1_000_000))
    assert meter.joules is not None and meter.joules > 0, meter
    assert meter.reading.cpu_seconds and meter.reading.cpu_seconds > 0, meter.reading
    assert meter.stats()["worker_func_energy_duration"] > 0
    assert measure(lambda: 7)() == 7
    known_joules()
    assert any(hasattr(finder, "lithowatt_hook") for finder in sys.meta_path), "no hook"
    command = [sys.executable, "-m", "lithowatt", "doctor", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found, "doctor says nothing"
    print(
        "smoke:",
        platform.machine(),
        "musl" if "musl" in sysconfig.get_config_var("SOABI") else "glibc",
        sys.version.split()[0],
        meter,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
