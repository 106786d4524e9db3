"""The fuzzer at work: the kept corpus, and a short search from a fixed seed. ``python -m fuzz.http2`` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def fuzz(*arguments: str) -> str:
    """Run the fuzzer, which ends with an error when it finds something."""
    command = [sys.executable, "-m", "fuzz.http2", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stderr


def test_the_corpus() -> None:
    inputs = sorted(path for path in (ROOT / "fuzz" / "corpus").iterdir())
    assert len(inputs) >= 10
    fuzz(*map(str, inputs))


def test_a_short_search() -> None:
    said = fuzz("--seconds", "5", "--seed", "1")
    runs = next(line for line in said.splitlines() if "number_of_executed_units" in line)
    assert int(runs.split()[-1]) > 100
