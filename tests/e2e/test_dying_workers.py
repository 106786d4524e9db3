"""Workers that say nothing, end, or break off, in each phase: a real Envoy lets nothing pass, and clients can read why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import (
    NAMESPACE,
    READS_ALL,
    READS_EVENTS,
    READS_HERE,
    READS_KEY,
    RESPONSE_KEY,
    RESPONSE_NAMESPACE,
)
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render import processors
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.extproc import _pb as pb
from tests.support import own_envoy
from tests.support.own_envoy import Browser
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE

Process = Callable[
    [AsyncIterator[pb.ProcessingRequest], grpc.aio.ServicerContext], AsyncIterator[pb.ProcessingResponse]
]
"""What a worker does with an exchange."""


async def ends_in_good_terms(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
    """By the protocol this lets the exchange pass unprocessed."""
    await anext(aiter(requests))
    return
    yield pb.ProcessingResponse()


async def breaks_off(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
    await anext(aiter(requests))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker ends")
    yield pb.ProcessingResponse()


async def says_nothing(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
    async for _ in requests:
        pass
    await asyncio.Event().wait()
    yield pb.ProcessingResponse()


async def says_nothing_of_meaning(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
    async for _ in requests:
        yield pb.ProcessingResponse()


async def tells_the_id_and_breaks_off(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
    """In the only message that may come before the answer."""
    await anext(aiter(requests))
    answer = pb.ProcessingResponse()
    answer.override_message_timeout.FromSeconds(10)
    answer.dynamic_metadata.update({NAMESPACE: {"id_json": "7", "method": "tools/call"}})
    yield answer
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker ends")


ENDS = [ends_in_good_terms, breaks_off, says_nothing, says_nothing_of_meaning, tells_the_id_and_breaks_off]


def forwarding(reads: str, reading: Process) -> Process:
    """Sends a call to the server. Its response may come along on the same stream."""

    async def forwards(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
        async for message in requests:
            if message.HasField("request_body"):
                answer = pb.ProcessingResponse()
                common = answer.request_headers.response
                common.status = pb.CommonResponse.CONTINUE_AND_REPLACE
                common.body_mutation.body = message.request_body.body
                # Without a header that changes, Envoy keeps the route.
                common.header_mutation.set_headers.add().header.CopyFrom(pb.HeaderValue(key="x-test", raw_value=b"1"))
                common.clear_route_cache = True
                told = {
                    NAMESPACE: {"server": "alpha", "id_json": "7", "method": "tools/call"},
                    RESPONSE_NAMESPACE: {READS_KEY: reads},
                }
                answer.dynamic_metadata.update(told)
                yield answer
                async for of_response in reading(requests, context):
                    yield of_response

    return forwards


@asynccontextmanager
async def gateway(folder: Path, server: ScriptedServer, deciding: Process, reading: Process) -> AsyncIterator[Browser]:
    """An Envoy whose workers do this."""

    async def process(requests: Any, context: Any) -> AsyncIterator[pb.ProcessingResponse]:
        metadata = dict(context.invocation_metadata())
        async for answer in (reading if RESPONSE_KEY in metadata else deciding)(requests, context):
            yield answer

    async with own_envoy.place(folder, 1975) as where:
        where.sockets.mkdir()
        port = where.port(1975)
        config = GatewayConfig.model_validate(
            {
                "listen": {"port": port},
                "servers": {"alpha": {"url": server.url}},
                "log": {"access": str(folder / "access.log")},
            }
        )
        layout = Layout.in_directory(where.sockets)
        worker = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
        )
        handlers = grpc.method_handlers_generic_handler(pb.SERVICE_NAME, {pb.PROCESS_METHOD: handler})
        worker.add_generic_rpc_handlers((handlers,))
        worker.add_insecure_port(str(layout.extproc[0]))
        await worker.start()
        try:
            async with (
                own_envoy.envoy(where, to_json(bootstrap(config, layout)), port),
                own_envoy.browser(port) as client,
            ):
                yield client
        finally:
            await worker.stop(0)


async def in_events(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    body = b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'
    return web.Response(body=body, content_type="text/event-stream")


@pytest.fixture
async def alpha() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer("alpha", stateless=True) as server:
        yield server


IN_EVENTS = "AAAAAAAAAAAA"
"""It could be the id of a session whose responses come along."""

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}


def timeout(process: Process) -> float:
    """Seconds for Envoy to wait for a message: few where none comes."""
    return 2.0 if process is says_nothing else PATIENCE


@pytest.mark.parametrize("deciding", ENDS)
async def test_while_a_request_is_decided(
    tmp_path: Path, alpha: ScriptedServer, deciding: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "MESSAGE_TIMEOUT", timeout(deciding))
    async with gateway(tmp_path, alpha, deciding, says_nothing) as client:
        for forged in ({}, {"x_mcp_server": "alpha"}):
            answer = await client.post(CALL, **forged)
            assert answer.status == (504 if deciding is says_nothing else 503)
            assert answer.headers["content-type"] == "application/json"
            assert answer.error["code"] == -32603
            # Envoy has not read it, and takes it only with an answer.
            assert "id" not in answer.json
        assert not alpha.received


# Ending in good terms lets a response pass, too. No worker does that before it has answered (tests/extproc).
@pytest.mark.parametrize("reading", [breaks_off, says_nothing, says_nothing_of_meaning])
@pytest.mark.parametrize("reads", [READS_ALL, READS_EVENTS, READS_HERE])
async def test_while_a_response_is_read(
    tmp_path: Path, alpha: ScriptedServer, reading: Process, reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has answered; of what it said nothing reaches the client unread."""
    monkeypatch.setattr(processors, "MESSAGE_TIMEOUT", timeout(reading))
    async with gateway(tmp_path, alpha, forwarding(reads, reading), reading) as client:
        if reads != READS_ALL:
            alpha.on["tools/call"] = in_events
        session = {"mcp_session_id": IN_EVENTS} if reads == READS_HERE else {}
        answer = await client.post(CALL, **session)
        assert len(alpha.calls("tools/call")) == 1
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["id"] == 7
        assert answer.error == {"code": -32603, "message": "No answer: that of server 'alpha' was not read."}
