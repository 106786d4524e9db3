"""Work in a fork, of which only the result stays."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from dataclasses import dataclass
from mcp_extproc.run.forked import in_a_fork

@dataclass(frozen=True, slots=True)
class Found:
    pid: int
    text: bytes
    names: tuple[str, ...] | None = None

def work():
    import colorsys
    return Found(os.getpid(), bytes(range(256)) * 4096, ("a",))

found = in_a_fork(work, Found)
assert found is not None and found.pid != os.getpid()
assert (found.text, found.names) == (bytes(range(256)) * 4096, ("a",))
assert "colorsys" not in sys.modules

def fails():
    raise ValueError

def is_ended():
    sys.exit()

assert in_a_fork(fails, Found) is in_a_fork(is_ended, Found) is None
try:
    os.wait()
except ChildProcessError:
    print("no child is left")
"""


def test_only_the_result_stays() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("no child is left\n", "")
