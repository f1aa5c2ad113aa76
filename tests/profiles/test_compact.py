"""Profiles as bytes: what is sent comes back, and nothing else is taken."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from lithowatt.errors import MalformedValueError
from lithowatt.profiles._compact import from_bytes, to_bytes
from lithowatt.profiles._runs import read_profiles


def test_what_was_read_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "pi_aws_512Mb_arm" / "stage.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps(
            {
                "(1, 512, 2)": {
                    "read": [[0.1, 0.30000000000000004], [None, 5e-324]],
                    "cpu_name": [["a", None], ["b"]],
                    "cpu_cores_logical": [[2, 2], [2, 4]],
                }
            }
        )
    )
    (file,) = read_profiles([tmp_path]).files
    (back,) = from_bytes(to_bytes([file]))
    assert (back.name, back.sha256, back.label) == (file.name, file.sha256, file.label)
    (one,), (other,) = file.configurations, back.configurations
    assert (other.key, other.configuration) == (one.key, one.configuration)
    assert list(other.columns) == list(one.columns)
    for name, column in one.columns.items():
        again = other.columns[name]
        assert (again.labels, again.whole) == (column.labels, column.whole)
        np.testing.assert_array_equal(again.lengths, column.lengths)
        if column.numbers is not None:
            assert again.numbers is not None
            assert again.numbers.tobytes() == column.numbers.tobytes()
    assert other.texts("cpu_name") == one.texts("cpu_name")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedValueError, match="no profile"):
        from_bytes(content)


def test_another_layout_is_refused() -> None:
    head = np.frombuffer(json.dumps({"layout": 99}).encode(), dtype=np.uint8)
    content = io.BytesIO()
    np.savez(content, head=head)
    with pytest.raises(MalformedValueError, match="layout 99"):
        from_bytes(content.getvalue())
