"""The pipe of Envoy's records, as the supervisor keeps it."""

from __future__ import annotations

import asyncio
import os
import stat
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


async def test_what_nobody_reads_is_thrown_away_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also what waits for room. What has room is left to whoever reads it next."""
    monkeypatch.setattr(records_pipe, "LOOK_SECONDS", 0.01)
    path = tmp_path / "records.pipe"
    pipe = RecordsPipe(PipeAddress(str(path)))
    pipe.watch()
    writer = os.open(path, os.O_RDWR)
    line = b"x" * 99 + b"\n"
    written = asyncio.create_task(asyncio.to_thread(os.write, writer, line * 30_000))
    assert await asyncio.wait_for(written, 10) == 3_000_000, "more than a pipe holds"
    counts = Received(tmp_path / "records")
    await eventually(lambda: "records_thrown_away" in caplog.text, "it is said")
    assert counts.lost == 30_000
    os.write(writer, line)
    await asyncio.sleep(0.1)  # many looks
    assert os.read(writer, 1000) == line
    os.close(writer)
    await pipe.close()
