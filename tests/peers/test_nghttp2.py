"""The lean transport and nghttp2's clients, which need ``nghttp`` and ``h2load`` (Debian: nghttp2-client)."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from mcp_extproc.extproc.http2 import grpc
from tests.extproc.http2rig import Producer, serving
from tests.support.rawclient import DEADLINE

GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")


async def run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    assert path is not None, f"{program} is missing: apt-get install nghttp2-client"
    process = await asyncio.create_subprocess_exec(
        path, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(DEADLINE * 2):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.fixture
def check(tmp_path: Path) -> str:
    """A file with the message of a health check."""
    path = tmp_path / "check"
    path.write_bytes(grpc.message(b""))
    return str(path)


@pytest.mark.parametrize(
    "options", [(), ("--window-bits=1",), ("--padding=100",), ("--continuation",), ("--header-table-size=0",)], ids=str
)
async def test_nghttp(options: tuple[str, ...], check: str) -> None:
    async with serving(Producer()) as (_, port):
        url = f"http://127.0.0.1:{port}/grpc.health.v1.Health/Check"
        said = await run("nghttp", "-nv", "--no-dep", *options, *GRPC, "--data", check, url)
    assert ":status: 200" in said
    assert "grpc-status: 0" in said
    assert set(re.findall(r"error_code=(\w+)", said)) <= {"NO_ERROR"}


@pytest.mark.parametrize("options", [("-m", "1"), ("-m", "100"), ("-m", "10", "-w", "1", "-W", "1")], ids=str)
async def test_h2load(options: tuple[str, ...], check: str) -> None:
    async with serving(Producer()) as (_, port):
        url = f"http://127.0.0.1:{port}/grpc.health.v1.Health/Check"
        said = await run("h2load", "-n", "3000", "-c", "3", *options, *GRPC, "-d", check, url)
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "status codes: 3000 2xx" in said
