"""Memory that is given back once a process has started."""

from __future__ import annotations

import subprocess
import sys

from mcp_extproc.run.resident import unwritten

SMAPS = b"""\
55d0a0000000-55d0a0001000 r-xp 00000000 fe:00 1 /usr/bin/python3.11
Size:                  4 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0000002000 r--p 00000000 fe:00 2 /usr/lib/of a name with spaces.so
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00002000 fe:00 2 /usr/lib/relocated.so
Anonymous:             4 kB
7f0000003000-7f0000004000 rw-p 00003000 fe:00 2 /usr/lib/data.so
Anonymous:             0 kB
7f0000004000-7f0000005000 r--s 00000000 00:01 3 /dev/shm/shared
Anonymous:             0 kB
7f0000005000-7f0000006000 r--p 00000000 00:00 0\x20
Anonymous:             0 kB
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
"""
LINES = SMAPS.splitlines(keepends=True)

PROGRAM = """
import re, ssl, hashlib, aiohttp, pydantic
from pathlib import Path
from mcp_extproc.run.resident import give_back, mapped

def of_files():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    [all_, own] = [int(re.search(rf"^{name}: +(\\d+) kB", rollup, re.MULTILINE)[1]) for name in ("Rss", "Anonymous")]
    return all_ - own

before = of_files()
give_back(mapped())
print(before, of_files())
class Model(pydantic.BaseModel):
    number: int
assert Model(number="3").number == 3
assert hashlib.sha256(b"x").hexdigest().startswith("2d711642")
ssl.create_default_context()
"""


def test_only_what_can_be_read_again_from_files() -> None:
    """Not what the loader has filled in before it was protected, which would be lost."""
    assert list(unwritten(LINES, frozenset(LINES))) == [
        (0x55D0A0000000, 0x55D0A0001000),
        (0x7F0000000000, 0x7F0000002000),
    ]


def test_no_library_that_somebody_loads_meanwhile() -> None:
    """While one is loaded all of it is a file that nobody has written to. What the loader fills in would be lost."""
    loaded = LINES[4]
    assert loaded.startswith(b"7f0000000000")
    assert list(unwritten(LINES, frozenset(LINES) - {loaded})) == [(0x55D0A0000000, 0x55D0A0001000)]


def test_a_process_goes_on_with_less() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 2
