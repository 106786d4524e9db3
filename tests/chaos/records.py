"""What befalls the collector, and whoever it tells, under load; and what of the requests is in no record then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.load import SERVERS, SESSIONS, Load, load
from tests.support.gateway import TestGateway, gateway
from tests.support.otlp_receiver import over_http
from tests.support.processes import free_port, http_server, sdk_server
from tests.support.waiting import eventually

ROTATE_BYTES = 8 << 10
"""Some twenty lines, so that files are rotated in each row."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong.

    Attributes:
        name: for people.
        happens: does it, and returns once it is over.
        receiver: how whoever gets spans behaves.
        loses: whether requests may be without a line of the audit.
        unknown: requests of which nobody knows whether they have one; ``None`` for any number.
        counted: what is counted as lost at last, of the attributes of :class:`Told`.
    """

    name: str
    happens: Callable[[TestGateway, Load], Awaitable[None]]
    receiver: str = "takes"
    loses: bool = False
    unknown: int | None = 0
    counted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it.

    Attributes:
        load: the calls.
        requests: of clients, all of which were answered.
        lines: of the audit.
        audit_lost: lines that could not be written, as the gateway counts them.
        records_lost: records that never came to the collector, likewise.
        spans_lost: likewise.
    """

    load: Load
    requests: int
    lines: int
    audit_lost: int
    records_lost: int
    spans_lost: int

    @property
    def accounted(self) -> int:
        """Requests that have a line, or are counted as lost."""
        return self.lines + self.audit_lost + self.records_lost


async def run(trouble: Trouble, folder: Path) -> Told:
    """Start everything, have it happen, and count until every request is accounted for."""
    address, audit = f"127.0.0.1:{free_port()}", folder / "audit.jsonl"
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(RECEIVERS[trouble.receiver]())
        ports = {name: free_port() for name in SERVERS}
        for name, port in ports.items():
            await stack.enter_async_context(http_server(sdk_server(name, port), port, log=folder / f"{name}.log"))
        client = await stack.enter_async_context(gateway(
            folder, {name: f"http://127.0.0.1:{port}/mcp" for name, port in ports.items()}, workers=2,
            telemetry={"metrics": {"address": address}, "traces": {"endpoint": receiver, "protocol": "http/protobuf"}},
            audit={"file": str(audit), "rotate_bytes": ROTATE_BYTES, "keep": 1000},
        ))  # fmt: skip
        async with load(client) as calls:
            await trouble.happens(client, calls)
            await calls.until_well()
            await eventually(lambda: len(_files(audit)), "the audit is rotated", until=lambda files: files > 1)
        requests = SESSIONS + calls.answered + calls.failed.total()
        counts = await eventually(
            lambda: _counted(address),
            f"{requests} requests are accounted for, of which {len(_lines(audit))} have a line",
            until=lambda found: (
                len(_lines(audit)) + found["audit_lost"] + found["records_lost"] >= requests
                and all(found[name] for name in trouble.counted)
            ),
        )
        return Told(calls, requests, len(_lines(audit)), **counts)


def _files(audit: Path) -> Sequence[Path]:
    return [*audit.parent.glob(f"{audit.name}*")]


def _lines(audit: Path) -> Sequence[bytes]:
    while True:
        # A file may have another name by now.
        with contextlib.suppress(FileNotFoundError):
            return [line for file in _files(audit) for line in file.read_bytes().splitlines()]


async def _counted(address: str) -> dict[str, int]:
    """What is counted as lost; nothing where nobody has counted yet."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as response:
            families = [*text_string_to_metric_families(await response.text())]
    except aiohttp.ClientError:  # it starts
        families = []
    totals = {sample.name: int(sample.value) for family in families for sample in family.samples}
    return {name: totals.get(f"mcp_gateway_{name}_total", 0) for name in _COUNTS}


_COUNTS = ("audit_lost", "records_lost", "spans_lost")


# -- Whoever gets spans ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _taking() -> AsyncIterator[str]:
    async with over_http() as received:
        yield received.url


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """Accepts connections, and never answers."""
    port = free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _absent() -> AsyncIterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


RECEIVERS: Mapping[str, Callable[[], AbstractAsyncContextManager[str]]] = {
    "takes": _taking, "is silent": _silent, "is absent": _absent,
}  # fmt: skip


# -- What happens ---------------------------------------------------------------------------------------------------------


async def _nothing(_: TestGateway, load: Load) -> None:
    await load.until_well()


async def _kill(gateway: TestGateway, _: Load) -> None:
    first = gateway.local.pids["collector"]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: gateway.local.pids.get("collector", first), "another one", until=lambda pid: pid != first)


async def _freeze(gateway: TestGateway, load: Load) -> None:
    """What is written meanwhile waits in the pipe."""
    pid, done = gateway.local.pids["collector"], load.answered
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: load.answered - done, "calls", until=lambda calls: calls >= _CALLS_MEANWHILE)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _slow_down(gateway: TestGateway, load: Load) -> None:
    """It has a tenth of the time."""
    pid, done = gateway.local.pids["collector"], load.answered
    while load.answered < done + _CALLS_MEANWHILE:
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.09)
        finally:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.01)


_CALLS_MEANWHILE = 500


async def _fill_the_disk(gateway: TestGateway, _: Load) -> None:
    """Nothing can be written to a file beyond its first byte, until lines were lost."""
    pid, metrics = gateway.local.pids["collector"], gateway.local.config.telemetry.metrics
    assert metrics is not None
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        await eventually(
            lambda: _counted(str(metrics.address)), "lines are lost", until=lambda found: found["audit_lost"]
        )
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


TROUBLES = (
    Trouble("nothing happens", _nothing),
    Trouble("kill -9 of the collector", _kill, loses=True),
    Trouble(f"the collector is frozen (SIGSTOP) for {_CALLS_MEANWHILE:,} calls", _freeze),
    Trouble("the collector has a tenth of the time", _slow_down),
    Trouble("the disk of the audit is full", _fill_the_disk, loses=True, counted=("audit_lost",)),
    Trouble("nobody is there to take spans", _nothing, receiver="is absent", counted=("spans_lost",)),
    Trouble("whoever takes spans never answers", _nothing, receiver="is silent", counted=("spans_lost",)),
)
