"""Records that come through the pipe."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from mcp_extproc.address import PipeAddress
from mcp_extproc.telemetry.collector import pipe_reader
from mcp_extproc.telemetry.collector.pipe_reader import PipeReader
from mcp_extproc.telemetry.collector.received import Received
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.records.line_reader import LineReader
from tests.support.waiting import PATIENCE, eventually
from tests.unit.telemetry.records.test_line_reader import line


class Collector:
    """Takes records, as the collector does; it dies when it shall."""

    def __init__(self, folder: Path) -> None:
        self.received = Received(folder / "records")
        self.taken: list[Exchange] = []
        self.dies = False
        self.chunks = 0
        self.lines = LineReader()
        self.reader = PipeReader(PipeAddress(str(folder / "pipe")), self.take, self.received)

    def take(self, chunk: bytes) -> int:
        self.chunks += 1
        before, found = self.lines.unreadable, [*self.lines.feed(chunk)]
        if not self.dies:
            self.taken += found
            self.received.add(len(found))
        return self.lines.unreadable - before


@pytest.fixture
def writer(tmp_path: Path) -> Iterable[int]:
    os.mkfifo(tmp_path / "pipe", 0o600)
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)
    yield descriptor
    os.close(descriptor)


async def test_what_is_written_comes(tmp_path: Path, writer: int) -> None:
    os.write(writer, line())
    collector = Collector(tmp_path)
    await eventually(lambda: collector.taken, "what was there before")
    os.write(writer, line()[:50])
    os.write(writer, line()[50:] + line())
    await eventually(lambda: collector.taken, "what comes", until=lambda taken: len(taken) == 3)
    os.write(writer, line() * 2)
    await collector.reader.stop()
    assert len(collector.taken) == 5, "and what is there at the end"
    assert collector.received.lost == 0


async def test_what_comes_in_pieces_is_read_at_once(tmp_path: Path, writer: int) -> None:
    """Nobody wakes up for each of them."""
    os.write(writer, line())
    collector = Collector(tmp_path)
    for _ in range(20):
        for _ in range(5):
            await asyncio.sleep(0)  # whoever waits for each piece reads it now
        os.write(writer, line())
    await eventually(lambda: collector.taken, "all of them", until=lambda taken: len(taken) == 21)
    assert collector.chunks < 10
    await collector.reader.stop()


async def test_of_a_small_pipe_all_is_read(tmp_path: Path, writer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where the system grants no larger one: more than it holds, while it is written. Nothing is waited for then."""
    monkeypatch.setattr(pipe_reader, "_GATHER_SECONDS", 100 * PATIENCE)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    collector = Collector(tmp_path)
    await asyncio.to_thread(lambda: [os.write(writer, line()) for _ in range(200)])
    await eventually(lambda: collector.taken, "all of them", until=lambda taken: len(taken) == 200)
    await collector.reader.stop()


async def test_what_the_next_one_gets(tmp_path: Path, writer: int) -> None:
    """Each line is a record, or lost."""
    first = Collector(tmp_path)
    first.dies = True
    os.write(writer, line() * 3 + line()[:40])
    await first.reader.stop()
    assert Received(tmp_path / "records").lost == 3
    os.write(writer, line()[40:] + line() * 2)
    second = Collector(tmp_path)
    await second.reader.stop()
    assert len(second.taken) == 2
    assert second.received.lost == 4, "of the fourth it had the beginning"


async def test_what_is_no_line_is_said(tmp_path: Path, writer: int, caplog: pytest.LogCaptureFixture) -> None:
    os.write(writer, b"a line of somebody else\n" + line())
    collector = Collector(tmp_path)
    await collector.reader.stop()
    assert (len(collector.taken), collector.received.lost) == (1, 1)
    assert "record_unreadable" in caplog.text
