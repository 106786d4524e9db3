"""The start of `run`, as it is reported."""

from __future__ import annotations

import mmap
import os
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.start import Start, compiled, pss, succeeded, table, turns


def test_a_table() -> None:
    one = Start(1, (1.0, 1.2, 9.0), (2.0, 2.4, 9.0), ({"python 1": 30.0, "mcp-worker 2": 20.0},))
    two = Start(2, (2.0,), (3.2,), ({"python 1": 60.0, "mcp-worker 2": 20.0, "mcp-worker 3": 20.4},))
    assert table([one, two]).splitlines()[-2:] == [
        "| 1 | 2.40 [2.00, 9.00] | 1.20 ±333% | 50.00 [50.00, 50.00] |",
        "| 2 | 3.20 [3.20, 3.20] | 2.00 ±0% | 100.40 [100.40, 100.40] |",
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"id":1,"result":{"content":[]}}', True),
        (b'{"id":1,"result":{"content":[],"isError":false}}', True),
        (b'{"id":1,"result":{"content":[],"isError":true}}', False),
        (b'{"id":1,"error":{"code":-32603,"message":"no \\"result\\""}}', False),
    ],
)
def test_a_start_ends_with_a_call_that_succeeds(answer: bytes, *, expected: bool) -> None:
    assert succeeded(answer) is expected


def test_numbers_of_workers_take_turns() -> None:
    assert turns(3) == [1, 2, 2, 1, 1, 2]


def test_memory_of_a_process() -> None:
    before = pss(os.getpid())
    with mmap.mmap(-1, 64 << 20) as taken:  # from the system, and not of what this process had before
        for start in range(0, len(taken), mmap.PAGESIZE):
            taken[start] = 1
        assert 48 < pss(os.getpid()) - before < 80


def test_what_is_started_is_compiled_as_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Python writes no bytecode by itself."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "module.py"
    module.write_text("x = 1")
    compiled(tmp_path)
    assert Path(cache_from_source(str(module))).exists()
    (tmp_path / "broken.py").write_text("x =")
    with pytest.raises(BenchError, match="bytecode"):
        compiled(tmp_path)
