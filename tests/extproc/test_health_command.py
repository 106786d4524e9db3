"""``mcp-extproc health``, by which a container's health check tells whether the workers take requests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import packages_distributions
from pathlib import Path

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mcp_extproc.address import Address, TcpAddress, UnixAddress
from mcp_extproc.bridge.server import BridgeServer
from mcp_extproc.config import GatewayConfig
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.telemetry.counters import Counters
from tests.extproc.rig import SECRET, SERVERS, Transport
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.processes import free_port
from tests.support.rawclient import DEADLINE
from tests.support.vetted import vetted_calls

NOWHERE = "127.0.0.1:1"
"""Nobody listens there."""


async def ask(*arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code of the command, and what it said."""
    # The environment is small on purpose: what a container has.
    ended = await _ran(
        [sys.executable, "-m", "mcp_extproc", "health", *arguments], {"PYTHONPATH": ":".join(sys.path), **environment}
    )
    return ended.returncode, ended.stdout + ended.stderr


async def _ran(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # Not by the loop: uvloop runs Python between fork and exec, where what gRPC left to be collected waits for ever for
    # threads that a fork does not have.
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    """Not pytest's: a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:
        yield Path(directory)


@asynccontextmanager
async def serving(transport: Transport, *addresses: Address) -> AsyncIterator[None]:
    """A worker at each address."""
    gateway = Gateway(GatewayConfig.model_validate({"servers": SERVERS}), SECRET, SessionMemory())
    processor = Processor(gateway, FakeUpstreams(), FakeStreams(), vetted_calls(gateway), Counters(), lambda: 0.0)
    servers = [transport(processor, address, 1024) for address in addresses]
    try:
        for server in servers:
            await server.start()
        yield
    finally:
        for server in servers:
            await server.stop(0)


async def test_workers_that_serve(transport: Transport, folder: Path) -> None:
    addresses = (UnixAddress(f"{folder}/s"), TcpAddress("127.0.0.1", free_port()))
    async with serving(transport, *addresses):
        assert await ask(*map(str, addresses)) == (0, "".join(f"{address}: serving\n" for address in addresses))
        # A proxy for the outside has nothing to do with it.
        assert (await ask(str(addresses[1]), http_proxy=f"http://{NOWHERE}"))[0] == 0
        code, said = await ask(str(addresses[0]), NOWHERE)
        assert code == 1
        assert said.splitlines() == [f"{addresses[0]}: serving", f"{NOWHERE}: nothing responds"]
    assert (await ask(str(addresses[0])))[0] == 1


async def test_the_default_addresses_are_those_of_serve(transport: Transport, folder: Path) -> None:
    sockets = folder / "mcp-extproc"
    sockets.mkdir(mode=0o700)
    here = {"XDG_RUNTIME_DIR": str(folder)}
    async with serving(transport, UnixAddress(f"{sockets}/extproc-0.sock"), UnixAddress(f"{sockets}/extproc-1.sock")):
        assert (await ask(**here))[0] == 0
        assert (await ask("--workers", "2", **here))[0] == 0
        code, said = await ask(**here, MCP_EXTPROC_WORKERS="3")
        assert code == 1
        assert "extproc-2.sock: nothing responds" in said
        assert (await ask("--directory", str(sockets), "--workers", "2"))[0] == 0
        assert (await ask(MCP_EXTPROC_DIRECTORY=str(sockets)))[0] == 0


@asynccontextmanager
async def answering(status: health_pb2.HealthCheckResponse.ServingStatus | None) -> AsyncIterator[str]:
    """A gRPC server with this health; ``None``: without the health service. Yields its address."""
    server = grpc.aio.server()
    if status is not None:
        servicer = health.aio.HealthServicer()
        await servicer.set("", status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_one_that_is_not_ready() -> None:
    async with answering(health_pb2.HealthCheckResponse.NOT_SERVING) as address:
        assert await ask(address) == (1, f"{address}: it is NOT_SERVING\n")


async def test_one_that_is_something_else() -> None:
    async with answering(None) as address:
        assert await ask(address) == (1, f"{address}: there is no health service: UNIMPLEMENTED\n")


async def test_one_that_hangs() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await ask(address, "--timeout", "0.2") == (1, f"{address}: no response in time\n")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x50", b"\0" * 9])
async def test_one_that_speaks_something_else(greeting: bytes) -> None:
    """HTTP/1.1, TLS, and frames that do not begin with SETTINGS."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        said = f"{address}: there is no health service: it does not speak HTTP/2 without TLS\n"
        assert await ask(address) == (1, said)


async def test_it_imports_only_what_it_needs(transport: Transport, folder: Path) -> None:
    """It runs every few seconds in each container."""
    address = UnixAddress(f"{folder}/extproc-0.sock")
    async with serving(transport, address):
        ended = await _ran(
            [sys.executable, "-S", "-X", "importtime", "-m", "mcp_extproc", "health", "--directory", str(folder)],
            {"PYTHONPATH": ":".join(sys.path)},
        )
    assert ended.stdout == f"{address}: serving\n"
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "mcp_extproc" in imported
    assert imported & packages_distributions().keys() <= {"mcp_extproc"}
    assert not imported & {"argparse", "asyncio", "inspect", "logging", "pathlib", "ssl"}


async def test_a_bridge(transport: Transport, folder: Path) -> None:
    """It is asked alone, as it has a container of its own, or with the workers that are named."""
    runner = web.AppRunner(BridgeServer().application(1024))
    await runner.setup()
    try:
        await web.UnixSite(runner, f"{folder}/b").start()
        bridge, worker = f"unix:{folder}/b", UnixAddress(f"{folder}/w")
        assert await ask("--bridge", bridge) == (0, f"{bridge}: serving\n")
        assert await ask("--bridge", bridge, str(worker)) == (1, f"{bridge}: serving\n{worker}: nothing responds\n")
        async with serving(transport, worker):
            assert await ask(f"--bridge={bridge}", str(worker)) == (0, f"{bridge}: serving\n{worker}: serving\n")
            assert await ask("--bridge", str(worker)) == (1, f"{worker}: it is no bridge\n")
    finally:
        await runner.cleanup()
    assert await ask("--bridge", bridge) == (1, f"{bridge}: nothing responds\n")


async def test_a_bridge_that_hangs() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await ask("--bridge", address, "--timeout", "0.2") == (1, f"{address}: no response in time\n")


@pytest.mark.parametrize(
    "wrong", [("--bridge", "nowhere"), ("--timeout", "0"), ("--workers", "x"), ("--directory",), ("--nonsense",)]
)
async def test_bad_options(wrong: tuple[str, ...]) -> None:
    code, said = await ask(*wrong)
    assert code == 2
    assert wrong[0] in said


async def test_a_bad_address() -> None:
    code, said = await ask("nowhere")
    assert code == 2
    assert "'nowhere'" in said
