"""A recorded run of the simulated machine, with powercap's counters and perf's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from lithowatt.trace import Trace
from lithowatt.trace._record import Recording
from rig import Rig
from tests.trace.recorder import busy
from tests.trace.test_replay import replayed_elsewhere

pytestmark = [pytest.mark.rig, pytest.mark.quiet]


@pytest.mark.parametrize("interval", [0.01, 0.1])
def test_rapl_and_perf_are_replayed_as_they_were_read(
    live: None, interval: float, tmp_path: Path
) -> None:
    with Rig(watts=50.0, perf=True, max_range_uj=40_000_000) as rig:
        recording = Recording(
            methods="rapl,perf,psutil,model", interval=interval, root=rig.root, label=None
        )
        recording.start()
        busy(0.5)
        recording.stop()
        reading = recording.reading
        truth = rig.energy(*reading.window_ns)
        recording.save(tmp_path / "trace")
    again = replayed_elsewhere(tmp_path / "trace", tmp_path)
    assert again["raw"] == json.loads(json.dumps(reading.raw))
    assert again["flat"] == json.loads(json.dumps(reading.flat()))
    assert reading.rapl.package == pytest.approx(truth.package, rel=0.05)
    if not reading.perf.available:
        pytest.skip(reading.perf.source)
    assert reading.perf.package == pytest.approx(truth.package, rel=0.05)
    # Each alone, of the same trace.
    trace = Trace.read(tmp_path / "trace")
    for method in ("rapl", "perf"):
        with EnergyMeter(method, replay=trace) as meter:
            pass
        one = meter.reading
        assert getattr(one, method).total == getattr(reading, method).total
        assert one.method is not None and one.method.startswith(method)
