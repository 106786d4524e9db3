"""TLS between a real Envoy and workers at TCP addresses: ``serve --tls-...`` and ``envoy bootstrap --extproc-...``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import grpc
import pytest
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.extproc.certificates import TlsFiles
from mcp_extproc.run.envoy_binary import find_envoy
from mcp_extproc.telemetry import _pb as pb
from tests.e2e.test_workers import WELL, load
from tests.support.gateway import TestClient
from tests.support.processes import free_port, http_server
from tests.support.scripted import ScriptedServer
from tests.support.tls import Authority, Volume
from tests.support.waiting import eventually
from tests.unit.telemetry.support import FACTS, record


class Stage:
    """Workers with TLS, and as many Envoys in front of them as a test starts.

    Args:
        directory: for files.
        sockets: for sockets, whose paths have to be short.
        transport: of the workers.
        server: whom they serve.
        stack: ends them all.
    """

    def __init__(
        self, directory: Path, sockets: Path, transport: str, server: ScriptedServer, stack: AsyncExitStack
    ) -> None:
        self._directory = directory
        self._sockets = sockets
        self._transport = transport
        self._stack = stack
        self._file = directory / "gateway.yaml"
        self._written = {
            "servers": {"alpha": {"url": server.url}},
            "session": {"secret": "s" * 32},
            "log": {"access": ""},
        }
        self._file.write_text(json.dumps(self._written))
        self._ports: list[int] = []
        self._envoys = 0
        self._collector: tuple[str, ...] = ()

    def audit(self) -> tuple[str, Path]:
        """Have requests audited, by a collector at an address. Returns that, and the file."""
        address = f"127.0.0.1:{free_port()}"
        self._collector = ("--collector", address)
        self._file.write_text(json.dumps(self._written | {"audit": {"file": "audit.jsonl"}}))
        return address, self._directory / "audit.jsonl"

    async def worker(self, tls: TlsFiles) -> None:
        """One more worker. Sub-requests of all of them go to the first Envoy."""
        port = free_port()
        self._ports.append(port)
        command = [
            sys.executable, "-m", "mcp_extproc", "serve", str(self._file),
            "--transport", self._transport, "--listen", f"127.0.0.1:{port}",
            "--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key), "--tls-client-ca", str(tls.client_ca),
            *self._collector,
        ]  # fmt: skip
        environment = {"XDG_RUNTIME_DIR": str(self._runtime(1))}
        log = self._directory / f"worker-{len(self._ports)}.log"
        await self._stack.enter_async_context(http_server(command, port, log=log, environment=environment))

    async def envoy(self, ca: Path | None, *options: str) -> TestClient:
        """Another Envoy that trusts this authority of the workers, and a client of it."""
        self._envoys += 1
        port = free_port()
        workers = [option for port in self._ports for option in ("--extproc", f"127.0.0.1:{port}")]
        trust = ("--extproc-ca", str(ca)) if ca is not None else ()
        printed = CliRunner().invoke(
            cli,
            ["envoy", "bootstrap", str(self._file), "--port", str(port), *workers, *trust, *options, *self._collector],
            env={"XDG_RUNTIME_DIR": str(self._runtime(self._envoys))},
        )
        assert printed.exit_code == 0, printed.output
        configuration = self._directory / f"envoy-{self._envoys}.json"
        configuration.write_text(printed.stdout)
        command = [
            find_envoy(), "-c", str(configuration), "--disable-hot-restart", "--log-level", "warning",
            "--concurrency", "1",
        ]  # fmt: skip
        log = self._directory / f"envoy-{self._envoys}.log"
        await self._stack.enter_async_context(http_server(command, port, log=log))
        http = await self._stack.enter_async_context(aiohttp.ClientSession())
        return TestClient(f"http://localhost:{port}/mcp", http)

    def _runtime(self, number: int) -> Path:
        """Where the sockets of one Envoy are."""
        runtime = self._sockets / str(number)
        (runtime / "mcp-extproc").mkdir(parents=True, mode=0o700, exist_ok=True)
        return runtime


@pytest.fixture(params=["http2", "grpcio"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path, alpha: ScriptedServer) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-")))
        yield Stage(tmp_path, sockets, request.param, alpha, stack)


def own(authority: Authority) -> tuple[str, ...]:
    """Options that give an Envoy the authority's client certificate."""
    return (
        "--extproc-client-certificate", str(authority.certificate("client")),
        "--extproc-client-key", str(authority.key("client")),
    )  # fmt: skip


async def is_refused(client: TestClient) -> None:
    answer = await client.rpc("ping")
    assert (answer.status, answer.error["code"]) == (503, -32603)


async def test_two_workers_with_health_checks(stage: Stage, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    for _ in range(2):
        await stage.worker(authority.server_files())
    admin = free_port()
    client = await stage.envoy(authority.ca, *own(authority), "--admin", f"127.0.0.1:{admin}")
    await eventually(
        lambda: _well(client.http, admin), "both workers are well", until=lambda seen: seen == f"{WELL}: 2"
    )
    for _ in range(8):
        assert (await client.call(await client.initialize(), "alpha__echo")).result


async def _well(http: aiohttp.ClientSession, admin: int) -> str:
    """How many workers are well, as Envoy says it."""
    async with http.get(f"http://127.0.0.1:{admin}/stats?filter=^{WELL}$") as answer:
        return (await answer.text()).strip()


async def test_who_is_refused(stage: Stage, tmp_path: Path, alpha: ScriptedServer) -> None:
    """An Envoy without a certificate, one without TLS, one that does not trust the worker, or expects another name."""
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    await stage.worker(authority.server_files())
    good = await stage.envoy(authority.ca, *own(authority))
    for bad in (
        await stage.envoy(authority.ca),
        await stage.envoy(None),
        await stage.envoy(stranger.ca, *own(authority)),
        await stage.envoy(authority.ca, *own(authority), "--extproc-sni", "gateway.internal"),
    ):
        await is_refused(bad)
    assert not alpha.received
    assert await good.initialize()


async def test_certificates_replaced_under_calls(stage: Stage, tmp_path: Path) -> None:
    """Authorities too: who is connected goes on, and who connects has to belong to the new one."""
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    volume = Volume(tmp_path / "volume")
    volume.put(old)
    await stage.worker(volume.files)
    connected = await stage.envoy(old.ca, *own(old))
    async with load(connected) as calls:
        volume.put(new)
        assert await (await stage.envoy(new.ca, *own(new))).initialize()
        await is_refused(await stage.envoy(old.ca, *own(old)))
        await is_refused(await stage.envoy(new.ca, *own(old)))
        await calls.more(50)
    assert calls.failed == []


async def test_attack_who_has_no_certificate_writes_no_audit(stage: Stage, tmp_path: Path) -> None:
    """Any user of the machine can connect to a TCP address."""
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    address, audit = stage.audit()
    await stage.worker(authority.server_files())
    client = await stage.envoy(authority.ca, *own(authority))
    forged = pb.StreamAccessLogsMessage()
    forged.http_logs.log_entry.append(record({**FACTS, "principal": "mallory"}))
    ca, _, _ = authority.client_files()
    _, key, certificate = stranger.client_files()
    for channel in (
        grpc.aio.insecure_channel(address),
        grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca)),
        grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate)),
    ):
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await channel.stream_unary(pb.STREAM_PATH)(iter([forged.SerializeToString()]))
    await client.initialize()
    await eventually(audit.read_text, "a line", until=lambda text: '"initialize"' in text)
    assert "mallory" not in audit.read_text()
