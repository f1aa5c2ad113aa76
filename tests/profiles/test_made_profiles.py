"""The profiles that tests are made of are such as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lithowatt.analysis.quantities import row_cpu_seconds, row_other_seconds
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import COLUMNS, EPYC, XEON, Kind, matched, random_kind, write


def test_what_is_asked_for_is_made(tmp_path: Path) -> None:
    kind = Kind(workers=(4, 28), repetitions=(6, 7), memory_mb=2048, work_s=100.0)
    (file,) = read_profiles([write(tmp_path, kind)]).files
    assert file.name == kind.name == "pi_aws_2048Mb_x86/stage.json"
    assert [runs.key for runs in file.configurations] == kind.keys
    for runs, workers, repetitions in zip(file.configurations, (4, 28), (6, 7), strict=True):
        assert tuple(runs.columns) == COLUMNS
        assert runs.widths.tolist() == [workers] * repetitions
        assert runs.usable.all()
        np.testing.assert_allclose(runs.numbers("compute").mean(), 100 / workers, rtol=0.02)
        np.testing.assert_allclose(runs.sum_of(row_cpu_seconds(runs)), 95, rtol=0.05)
        assert (row_other_seconds(runs) > 0).all()


def test_a_kind_is_the_same_each_time(tmp_path: Path) -> None:
    kinds = matched(Kind(seed=5))
    a, b = (read_profiles([write(tmp_path / name, *kinds)]) for name in "ab")
    assert [file.sha256 for file in a.files] == [file.sha256 for file in b.files]
    assert len({file.sha256 for file in a.files}) == 6


def test_drift_mix_weak_scaling_and_few_workers(tmp_path: Path) -> None:
    kinds = [
        Kind("drift", drift=0.8),
        Kind("mix", mix={XEON: 0.5, EPYC: 0.5}),
        Kind("weak", weak=True, workers=(2, 20)),
        Kind("one", most_workers=1),
    ]
    files = {file.workload: file for file in read_profiles([write(tmp_path, *kinds)]).files}
    drift = files["drift"].configurations[2]
    slow = drift.sum_of(np.array([name == EPYC for name in drift.texts("cpu_name")], dtype=float))
    assert slow[0] == 0
    assert slow[-1] == 10
    assert set(files["mix"].configurations[0].texts("cpu_name")) == {XEON, EPYC}
    two, twenty = files["weak"].configurations
    ratio = twenty.numbers("compute").mean() / two.numbers("compute").mean()
    np.testing.assert_allclose(ratio, 1.0, rtol=0.02)
    assert all((runs.widths == 1).all() for runs in files["one"].configurations)


def test_clean_ones_have_a_sidecar(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(5):
        (file,) = read_profiles([write(tmp_path / str(number), random_kind(random))]).files
        assert file.sidecar is not None
        assert all(len(runs.records) == runs.repetitions for runs in file.configurations)
        assert all((runs.numbers("rapl_energy_cores") > 0).all() for runs in file.configurations)
