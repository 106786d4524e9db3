"""The pipe of Envoy's records, as the supervisor keeps it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_extproc.address import PipeAddress
from mcp_extproc.run import records_pipe
from mcp_extproc.run.records_pipe import RecordsPipe
from mcp_extproc.telemetry.collector.received import Received
from tests.support.waiting import eventually


async def test_it_is_there_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.pipe"
    pipe = RecordsPipe(PipeAddress(str(path)))
    mode = path.stat().st_mode
    assert (stat.S_ISFIFO(mode), stat.S_IMODE(mode)) == (True, 0o600)
    await RecordsPipe(PipeAddress(str(path))).close()
    await pipe.close()


async def test_what_is_none_is_not_taken(tmp_path: Path) -> None:
    """Such as the file that an Envoy makes that was there before, or somebody else's pipe."""
    (tmp_path / "file").touch(mode=0o600)
    os.mkfifo(tmp_path / "open", 0o600)
    (tmp_path / "open").chmod(0o622)
    for name in ("file", "open"):
        with pytest.raises(FileExistsError, match="no named pipe of this user's alone"):
            RecordsPipe(PipeAddress(str(tmp_path / name)))
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(OSError, match="link"):
        RecordsPipe(PipeAddress(str(tmp_path / "link")))


LINE = b"x" * 99 + b"\n"


@dataclass(frozen=True, slots=True)
class Written:
    """A pipe that is written to.

    Attributes:
        pipe: as the supervisor has it.
        writer: descriptor of who writes, and reads what is left.
        counts: what is counted of it.
    """

    pipe: RecordsPipe
    writer: int
    counts: Received


@pytest.fixture
async def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Written]:
    """One that is looked at often, once it is watched."""
    monkeypatch.setattr(records_pipe, "LOOK_SECONDS", 0.01)
    path = tmp_path / "records.pipe"
    pipe = RecordsPipe(PipeAddress(str(path)))
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield Written(pipe, writer, Received(tmp_path / "records"))
    await pipe.close()
    os.close(writer)


async def test_what_nobody_reads_is_thrown_away_and_counted(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """Also what waits for room. What has room is left to whoever reads it next."""
    os.set_blocking(written.writer, True)
    written.pipe.watch()
    writing = asyncio.create_task(asyncio.to_thread(os.write, written.writer, LINE * 30_000))
    assert await asyncio.wait_for(writing, 10) == 3_000_000, "more than a pipe holds"
    await eventually(lambda: "records_thrown_away" in caplog.text, "it is said")
    os.write(written.writer, LINE)
    left = os.read(written.writer, records_pipe.PIPE_BYTES).count(b"\n") - 1
    assert written.counts.lost + left == 30_000
    assert left < records_pipe.PIPE_BYTES * 3 // 4 // len(LINE)


async def test_small_writes_fill_it_with_half_its_bytes(written: Written) -> None:
    """Each takes a page where it does not fit into the one before."""
    held = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            held += os.write(written.writer, LINE * 21)
    assert held < records_pipe.PIPE_BYTES * 3 // 4
    written.pipe.watch()
    await eventually(lambda: written.counts.lost, "it is thrown away", until=lambda lost: lost > 0)


async def test_who_reads_again_loses_no_more(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    """However much goes on to be written: it is not taken away from somebody who reads."""
    os.write(written.writer, LINE * 10_000)
    written.pipe.watch()
    await eventually(lambda: written.counts.lost, "it is thrown away", until=lambda lost: lost == 10_000)

    async def flow() -> None:
        for _ in range(3000):
            os.write(written.writer, LINE)
            await asyncio.sleep(0.01)

    flowing = asyncio.create_task(flow())
    await eventually(lambda: "records_thrown_away" in caplog.text, "it has an end while more comes")
    assert written.counts.lost == 10_000
    flowing.cancel()
