"""A processor behind a transport, its servers in the hands of the test, and a client in Envoy's place."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from mcp_extproc.address import Address, TcpAddress, UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import CERTIFICATE, PRINCIPAL_NAMESPACE, RESPONSE_KEY, RESPONSE_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.extproc.http2.transport import Http2Server
from mcp_extproc.extproc.shared import Upstreams
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.mcp.sessions import Sealer, Session, UpstreamSession
from mcp_extproc.telemetry.counters import Counters
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.vetted_calls import VettedCalls
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.rawclient import (
    DEADLINE,
    Fields,
    RawClient,
    RawExchange,
    common,
    headers_message,
    kind,
    request_fields,
    rpc,
)
from tests.support.scripted import ScriptedServer
from tests.support.vetted import vetted_calls

NOW = 1_800_000_000.0
"""Unix time of the processor, which stands still."""

FOR_LEGS = 15.0
"""Seconds that Envoy is asked to wait for a fan-out: the deadline of its legs, and a margin."""

FOR_A_SESSION = 25.0
"""For a session to be opened, and restored, before a call is forwarded."""

SECRET = "s" * 32

REQUEST_BYTES = 64 * 1024

GITHUB = UpstreamSession("2025-11-25", "gh-1", frozenset({"tools"}))
WEATHER = UpstreamSession("2025-06-18", "w-1", frozenset({"tools"}))

SERVERS: Mapping[str, Any] = {
    "github": {
        "url": "http://github.test/mcp?toolset=all",
        "prefix": "gh",
        "headers": {"Authorization": "Bearer of-the-gateway"},
    },
    "weather": {"url": "http://weather.test/api"},
}

REPAIR_ROUTE = "mcp_repair/github"
"""Envoy's route of a call that came back because the server lost its session."""

REPAIR_FIELDS: Fields = request_fields(
    mcp_session_id="gh-1", mcp_protocol_version="2025-11-25", x_envoy_attempt_count="2", x_mcp_server="github"
)
"""The head of such a call."""


class Server(Protocol):
    """What a transport has to be."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self, grace: float) -> None:
        """Give running exchanges this many seconds, then end them. Stopping twice is fine."""


Transport = Callable[[Processor, Address, int], Server]
"""Makes a server of a processor, its address, and the largest body in bytes."""

TRANSPORTS: Mapping[str, Transport] = {"grpcio": GrpcioServer, "http2": Http2Server}
"""All of them pass the same tests. They share the statuses too, with which a stream ends that can't be answered."""

U = TypeVar("U", bound=Upstreams)


class Rig(Generic[U]):
    """A running server with a client connected to it."""

    def __init__(self, processor: Processor, upstreams: U, sealer: Sealer, server: Server, client: RawClient) -> None:
        self.processor = processor
        self.gateway = processor.gateway
        self.counters = processor.counters
        self.upstreams = upstreams
        self.server = server
        self.client = client
        self.brings_response = False
        """Whether responses come along on the streams of their requests."""
        self.certificate = ""
        """What a filter has read in the certificates of those who post; empty where there is none."""
        self._sealer = sealer

    def token(self, **upstreams: UpstreamSession) -> str:
        """An ``Mcp-Session-Id`` of the gateway, with these sessions or else one with each server."""
        return seal(self._sealer, upstreams=upstreams or {"github": GITHUB, "weather": WEATHER})

    def fields(self, **headers: str) -> list[tuple[str, str | bytes]]:
        """The head of a client's POST in a session that is good, unless ``headers`` has it otherwise."""
        headers = {"mcp_session_id": self.token(), "mcp_protocol_version": "2025-11-25", **headers}
        return request_fields("POST", "/mcp", extra=(), authority="localhost:1975", **headers)

    async def asked(self, fields: Fields | None = None) -> RawExchange:
        """An exchange that has read the head and owes an answer once the body is there, which was not sent."""
        exchange = self.client.exchange()
        await exchange.send_headers(self.fields() if fields is None else fields)
        await self.client.health("")  # on the same connection: the server has read the head
        return exchange

    async def posted(self, body: bytes, fields: Fields | None = None) -> RawExchange:
        """An exchange whose body was sent; the answer is still to be read."""
        exchange = self.client.exchange()
        head = headers_message(self.fields() if fields is None else fields)
        if self.brings_response:
            head.protocol_config.response_body_mode = pb.ProcessingMode.STREAMED
        if self.certificate:
            proven = head.metadata_context.filter_metadata[PRINCIPAL_NAMESPACE]
            proven.fields[CERTIFICATE].string_value = self.certificate
        await exchange.send(head)
        await exchange.send_body(body)
        return exchange

    async def response_to(self, answer: pb.ProcessingResponse, head: pb.ProcessingRequest) -> RawExchange:
        """The stream of the response to a call that this answer forwarded, whose metadata goes with the response's head."""
        head.metadata_context.filter_metadata[RESPONSE_NAMESPACE].CopyFrom(
            answer.dynamic_metadata.fields[RESPONSE_NAMESPACE].struct_value
        )
        exchange = self.client.exchange(**{RESPONSE_KEY: "1"})
        await exchange.send(head)
        return exchange

    async def waiting(self, body: bytes, fields: Fields | None = None, patience: float = FOR_LEGS) -> RawExchange:
        """An exchange that started to ask servers, and has said that it takes longer."""
        exchange = await self.posted(body, fields)
        assert_more_time(await exchange.receive(), patience)
        return exchange

    async def serves(self) -> None:
        """Assert that others are served as ever: a call is forwarded."""
        exchange = await self.posted(call())
        answer = await exchange.receive()
        assert kind(answer) == "request_headers"
        assert common(answer).body_mutation.body == call("issue_read")
        assert (await exchange.end()).name == "OK"


@asynccontextmanager
async def rig(
    transport: Transport,
    upstreams: Callable[[Gateway], U],
    config: GatewayConfig | None = None,
    vetted: Callable[[Gateway], VettedCalls] = vetted_calls,
) -> AsyncIterator[Rig[U]]:
    """Start a server on a socket of its own.

    Args:
        transport: carries the exchanges.
        upstreams: makes whoever runs the fan-outs.
        config: with the servers ``github`` and ``weather`` by default.
        vetted: makes whoever asks users about calls.
    """
    config = config or configuration()
    sealer = Sealer(SECRET)
    gateway = Gateway(config, SECRET, SessionMemory())
    asked = upstreams(gateway)
    processor = Processor(gateway, asked, FakeStreams(), vetted(gateway), Counters(), lambda: NOW)
    # Not pytest's directory: a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:
        address = UnixAddress(f"{directory}/s")
        server = transport(processor, address, config.limits.request_bytes)
        await server.start()
        try:
            async with RawClient(address) as client:
                yield Rig(processor, asked, sealer, server, client)
        finally:
            await server.stop(0)


def fakes(gateway: Gateway) -> FakeUpstreams:
    """Servers that do only what the test says."""
    return FakeUpstreams()


@asynccontextmanager
async def real_legs(
    transport: Transport, server: ScriptedServer, config: GatewayConfig | None = None
) -> AsyncIterator[Rig[LegRunner]]:
    """A rig whose fan-outs are real requests. All of them go to this server, in the place of Envoy's private listener."""
    config = config or configuration()
    async with UpstreamClient(TcpAddress("127.0.0.1", server.port), config.limits) as client:

        def legs(gateway: Gateway) -> LegRunner:
            return LegRunner(client, BatchClient(None, config.limits), gateway.servers, gateway.memory, config.limits)

        async with rig(transport, legs, config) as running:
            yield running
            await running.upstreams.close()


def configuration(**sections: Any) -> GatewayConfig:
    """The two servers with a small body limit, and what is given here instead or besides."""
    return GatewayConfig.model_validate({"servers": SERVERS, "limits": {"request_bytes": REQUEST_BYTES}, **sections})


def seal(sealer: Sealer, **changes: Any) -> str:
    """A token of a client's session, good unless changed."""
    values: dict[str, Any] = {
        "audience": "/mcp",
        "principal": "",
        "version": "2025-11-25",
        "expires": int(NOW) + 3600,
        "client": "raw/1",
        "client_flags": frozenset(),
        "upstreams": {"github": GITHUB, "weather": WEATHER},
    }
    return sealer.seal(Session(**(values | changes)))[0]


def call(name: str = "gh__issue_read", *, id: Any = 1, **arguments: Any) -> bytes:
    """A ``tools/call``."""
    return rpc("tools/call", {"name": name, "arguments": arguments}, id=id)


def initialize(version: str = "2025-11-25") -> bytes:
    """A client's first request."""
    client = {"name": "raw", "version": "1"}
    return rpc("initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client})


def assert_more_time(answer: pb.ProcessingResponse, patience: float = FOR_LEGS) -> None:
    """The answer does nothing but ask Envoy for patience."""
    expected = pb.ProcessingResponse()
    expected.override_message_timeout.FromMilliseconds(round(patience * 1000))
    assert answer == expected


class LiveTasks:
    """The tasks that run now, to tell whether an exchange left any behind.

    They are told apart by what they run: a server may replace a task of its own, such as the one that accepts streams.
    """

    def __init__(self) -> None:
        self._before = _running()
        self._kinds_before = _kinds(self._before)

    async def ended(self) -> None:
        """Wait until no more tasks of any kind run than before."""
        while surplus := _kinds(now := _running()) - self._kinds_before:
            done, _ = await asyncio.wait(now - self._before, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            assert done, f"still running: {surplus}"


def _running() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _kinds(tasks: set[asyncio.Task[Any]]) -> Counter[str]:
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in tasks)
