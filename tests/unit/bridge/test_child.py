"""What a child writes, read line by line. Its life and its end: test_server.py."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import resource
import sys
from collections import Counter
from pathlib import Path

import pytest

from mcp_extproc import processes
from mcp_extproc.bridge import child as child_module
from mcp_extproc.bridge.child import Child, Reports
from mcp_extproc.bridge.lines import Skipped
from mcp_extproc.bridge.messages import Incoming
from mcp_extproc.bridge.peer import NotStarted
from mcp_extproc.held import HeldBytes
from mcp_extproc.upstreams.turns import Turns
from tests.support.waiting import PATIENCE, eventually
from tests.unit.bridge.support import HELD, spec

LINES = 1000
CHILDREN = 3
MOST = 100
"""In one round of the event loop, of all children: a few milliseconds' work."""


class Rounds(Reports):
    """Counts what happens in each round of the event loop."""

    def __init__(self) -> None:
        super().__init__("flooding")
        self.happened: Counter[int] = Counter()
        holding = HeldBytes(HELD).holding("")
        self.reading, self.unsent = holding.part(), holding.part()
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._next()

    def _next(self) -> None:
        self._number += 1
        self._handle = self._loop.call_soon(self._next)

    def stop(self) -> None:
        self._handle.cancel()

    def line(self, level: int, event: str, pid: int, text: str) -> None:
        self.happened[self._number] += 1

    async def receive(self, message: Incoming | Skipped) -> None:
        self.happened[self._number] += 1
        self.last = message


@pytest.mark.parametrize(
    "writes",
    [
        """sys.stdout.write('{"jsonrpc":"2.0","method":"x"}\\n' * LINES)""",
        """sys.stdout.write('junk\\n' * LINES)""",
        """sys.stderr.write('said\\n' * LINES)""",
    ],
    ids=["messages", "junk", "stderr"],
)
async def test_others_have_their_turn_while_children_flood(writes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What it has written is read for as long behind its end.
    monkeypatch.setattr(child_module, "GRACE_SECONDS", PATIENCE)
    rounds, turns = Rounds(), Turns()
    command = (sys.executable, "-S", "-E", "-c", f"import sys\nLINES = {LINES}\n{writes}")
    children = [await Child.start(spec(command=command), rounds, turns, rounds) for _ in range(CHILDREN)]
    await asyncio.gather(*(child.ended.wait() for child in children))
    rounds.stop()
    assert rounds.happened.total() == CHILDREN * LINES
    assert max(rounds.happened.values()) <= MOST


async def test_a_child_ends_though_no_process_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed like any other that does not end by itself."""

    def table() -> dict[int, processes.ProcessEntry]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(processes, "table", table)
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.05)
    rounds = Rounds()
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    child = await Child.start(spec(command=(sys.executable, "-S", "-E", "-c", code)), rounds, Turns(), rounds)
    await eventually(rounds.happened.total, "it ignores SIGTERM")
    async with asyncio.timeout(PATIENCE):
        await child.end()
    rounds.stop()
    assert child.ending_text == "ended with signal SIGKILL"


def test_the_same_end_again_is_a_warning_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports("s")
    with caplog.at_level(logging.INFO):
        for now, how in ((1000.0, "a"), (1030.0, "a"), (1060.0, "b"), (1090.0, "a"), (1120.0, "a"), (1690.0, "a")):
            reports.ended(f"ended with {how}", {"exit": how}, now)
    assert [record.levelname for record in caplog.records] == [
        "WARNING",
        "INFO",
        "WARNING",
        "WARNING",
        "INFO",
        "WARNING",
    ]


@pytest.mark.parametrize(
    ("text", "arguments", "why"),
    [
        ("#!/no/such/python\n", (), "the program that its first line (#!) or its format asks for is not there"),
        ("echo x\n", (), "it is neither a program for this machine nor a script whose first line begins with #!"),
        ("#!/bin/sh\n", ("x" * 1_000_000,), "its arguments and variables are longer than the system allows"),
    ],
)
async def test_a_program_that_the_system_does_not_run(
    tmp_path: Path, text: str, arguments: tuple[str, ...], why: str
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(text)
    tool.chmod(0o755)
    rounds = Rounds()
    with pytest.raises(NotStarted) as raised:
        await Child.start(spec(command=(str(tool), *arguments)), rounds, Turns(), rounds)
    rounds.stop()
    assert str(raised.value) == why


async def test_a_child_has_the_limit_of_open_files_that_programs_expect() -> None:
    """The bridge's own is as high as it may be; select(2) fails beyond 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    rounds = Rounds()
    code = """import json, resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
print(json.dumps({"jsonrpc": "2.0", "method": "x", "params": limits}))"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        child = await Child.start(spec(command=(sys.executable, "-S", "-E", "-c", code)), rounds, Turns(), rounds)
        await child.ended.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    rounds.stop()
    assert isinstance(rounds.last, Incoming)
    assert json.loads(rounds.last.text)["params"] == [min(1024, hard) if hard >= 0 else 1024, hard]
