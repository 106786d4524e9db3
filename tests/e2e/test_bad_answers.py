"""What servers send that is no answer to the call, not all of one, or compressed: each call gets one answer, with its id."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.codings import CODINGS
from tests.support.gateway import TestGateway
from tests.support.h2_front import Http2Front
from tests.support.scripted import Handler, ScriptedServer, fixed, raw
from tests.support.streaming import calling

JSON, SSE = "application/json", "text/event-stream"
LOGGED = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x"}}
RESULT = {"content": [{"type": "text", "text": "é" * 100}]}


def event(message: Any) -> str:
    return f"data: {json.dumps(message)}\n\n"


def result(id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": RESULT}


def responding(
    content_type: str,
    body: Callable[[Any], str | bytes],
    headers: Mapping[str, str] | None = None,
    *,
    chunked: bool = False,
    cut: bool = False,
) -> Handler:
    """Answer a call with a body that is made of its id.

    Args:
        content_type: of the body.
        body: the text.
        headers: more of them.
        chunked: do not say how long it is.
        cut: break the connection off in place of its end.
    """

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        text = body(message["id"])
        data = text.encode() if isinstance(text, str) else text
        response = web.StreamResponse(headers={"content-type": content_type, **(headers or {})})
        if not chunked:
            response.content_length = len(data) + cut
        await response.prepare(request)
        if data:
            await response.write(data)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    return handler


async def answered(gateway: TestGateway, session: str, name: str = "alpha__echo", id: Any = 1) -> list[Any]:
    """The messages that a call gets, in either form of a response."""
    message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {}}}
    # As aiohttp would ask for gzip by itself, and decompress it.
    answer = await gateway.send(json.dumps(message).encode(), mcp_session_id=session, accept_encoding="identity")
    assert answer.status == 200, answer.body
    assert not {"content-encoding", "etag", "content-language", "digest"} & {name.lower() for name in answer.headers}
    if answer.headers["content-type"].lower().startswith(JSON):
        return [answer.json]
    blocks = answer.body.decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(block.removeprefix("data: ")) for block in blocks if block.startswith("data: ")]


def is_error(messages: list[Any], id: Any = 1) -> bool:
    return [(one.get("id"), one.get("error", {}).get("code")) for one in messages if "method" not in one] == [
        (id, -32603)
    ]


Behind = Callable[..., dict[str, Any]]


@pytest.fixture(params=["by itself", "with its request"])
def servers(request: pytest.FixtureRequest, alpha: ScriptedServer, beta: ScriptedServer) -> Behind:
    """Those of a gateway, in both arrangements of the response: the second server has it come along with the request."""
    more = {"beta": {"url": beta.url}} if request.param == "with its request" else {}
    return lambda **section: {"alpha": {"url": alpha.url, **section}, **more}


NO_ANSWERS: Mapping[str, Handler] = {
    "empty": responding(JSON, lambda _: ""),
    "another's events": responding(SSE, lambda _: event(LOGGED) + event(result(2)), chunked=True),
    "no event": responding(SSE, lambda _: "", chunked=True),
    "no event, with a length": responding(SSE, lambda _: ""),
    "not one event": responding(SSE, lambda _: ": ka\n\n", chunked=True),
}
"""Found whoever the server is."""

NO_ANSWERS_IN_JSON: Mapping[str, Handler] = {
    "another's": responding(JSON, lambda _: json.dumps(result(2))),
    "of two readings": responding(JSON, lambda _: '{"jsonrpc":"2.0","id":1,"Id":2,"result":{}}'),
    "foreign": raw(200, JSON, '{"status": "ok"}'),
    "broken": raw(200, JSON, '{"jsonrpc": "2.0", "id": 1, "result": '),
    "empty, without a length": responding(JSON, lambda _: "", chunked=True),
    "only a request": responding(JSON, lambda _: '{"jsonrpc":"2.0","id":1,"method":"ping"}'),
}
"""Found where JSON is read."""


@pytest.mark.parametrize("stateless", [False, True], ids=["session", "no session"])
async def test_what_is_no_answer_becomes_an_error(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, stateless: bool
) -> None:
    """A server that answers a call to another one is not believed: clients go by the id alone."""
    alpha.stateless = stateless
    async with start(servers()) as gateway:
        session = await gateway.initialize()
        for what, handler in NO_ANSWERS.items():
            alpha.on["tools/call"] = handler
            assert is_error(await answered(gateway, session)), what
            assert is_error(await answered(gateway, session, id="é\\"), "é\\"), what


async def test_what_comes_behind_an_answer_is_none_of_another_call(
    start: StartGateway, alpha: ScriptedServer, servers: Behind
) -> None:
    """Also where the answer has come with the head of the stream, and Envoy has all of the response by then."""
    has_answer = asyncio.Event()

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": SSE})
        await response.prepare(request)
        await response.write(event(result(message["id"])).encode())
        await has_answer.wait()
        await response.write(event(result(2)).encode())
        await response.write_eof()
        return response

    async with start(servers()) as gateway:
        session = await gateway.initialize()
        alpha.on["tools/call"] = handler
        for _ in range(10):
            has_answer.clear()
            async with calling(gateway, session, "alpha__echo") as events:
                assert await events.message() == result(1)
                has_answer.set()
                assert await events.rest() == []


@pytest.mark.parametrize("stateless", [False, True], ids=["session", "no session"])
async def test_of_a_server_that_is_not_trusted_json_is_read(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, stateless: bool
) -> None:
    alpha.stateless = stateless
    async with start(servers(untrusted=True)) as gateway:
        session = await gateway.initialize()
        for what, handler in {**NO_ANSWERS, **NO_ANSWERS_IN_JSON}.items():
            alpha.on["tools/call"] = handler
            assert is_error(await answered(gateway, session)), what
        alpha.on["tools/call"] = responding(JSON, lambda number: json.dumps(result(str(number))))
        assert await answered(gateway, session) == [result(1)]
        alpha.on["tools/call"] = fixed(error={"code": 7, "message": "no"})
        assert (await answered(gateway, session))[0]["error"]["code"] == 7


@pytest.mark.parametrize("untrusted", [False, True])
async def test_of_a_content_type_that_only_begins_like_one_of_ours(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, untrusted: bool
) -> None:
    """Clients look for a part of the text, so Envoy and the worker have to agree on what is read."""
    async with start({"alpha": {"url": alpha.url, "untrusted": untrusted}, "beta": {"url": beta.url}}) as gateway:
        session = await gateway.initialize()
        for content_type in (
            "application/jsonp",
            "application/json-seq",
            f"{JSON}, {SSE}",
            f"{JSON} {SSE}",
            f"{JSON},",
        ):
            alpha.on["tools/call"] = responding(content_type, lambda _: json.dumps(result(2)))
            assert is_error(await answered(gateway, session)), content_type
        for content_type in (f"{SSE}s", f"{SSE}, {JSON}", f"{SSE},"):
            alpha.on["tools/call"] = responding(content_type, lambda _: event(result(2)), chunked=True)
            assert is_error(await answered(gateway, session)), content_type
        for content_type in ("Application/JSON", f"{JSON} ;charset=utf-8", f'{JSON}; a="b, c"'):
            alpha.on["tools/call"] = responding(content_type, lambda number: json.dumps(result(number)))
            assert await answered(gateway, session) == [result(1)], content_type


async def test_what_a_server_is_trusted_with(start: StartGateway, alpha: ScriptedServer) -> None:
    """JSON passes unread by default, whatever it is: docs/security.md says so."""
    async with start({"alpha": {"url": alpha.url}}) as gateway:
        session = await gateway.initialize()
        alpha.on["tools/call"] = NO_ANSWERS_IN_JSON["another's"]
        assert await answered(gateway, session) == [result(2)]


# -- Broken off -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [JSON, SSE])
async def test_a_server_that_breaks_off_while_its_head_is_read(
    start_own: StartGateway, alpha: ScriptedServer, content_type: str
) -> None:
    """Envoy answers by itself, past the filter for failures: HTTP 200 and an error with the id, as for every failed call."""
    cut = responding(content_type, lambda _: "{", cut=True)

    async def cut_while_nobody_reads(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        gateway.signal_workers(signal.SIGSTOP)
        return await cut(request, message)

    async with start_own({"alpha": {"url": alpha.url, "untrusted": True}}) as gateway:
        session = await gateway.initialize()
        alpha.on["tools/call"] = cut_while_nobody_reads
        try:
            [answer] = await answered(gateway, session, id="é\\")
        finally:
            gateway.signal_workers(signal.SIGCONT)
        assert (answer["id"], answer["error"]["code"]) == ("é\\", -32603)
        assert "'alpha' failed" in answer["error"]["message"]
        alpha.on["tools/call"] = fixed(result=RESULT)
        assert await answered(gateway, session) == [result(1)]


@pytest.mark.parametrize(("content_type", "untrusted"), [(JSON, False), (SSE, False), (SSE, True)])
async def test_what_is_cut_off_does_not_look_complete(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, content_type: str, untrusted: bool
) -> None:
    """Once the head has passed, Envoy can only break off as well (docs/protocol.md). The session goes on."""
    async with start(servers(untrusted=untrusted)) as gateway:
        session = await gateway.initialize()
        alpha.on["tools/call"] = responding(content_type, lambda _: event(LOGGED), chunked=True, cut=True)
        try:
            messages = await answered(gateway, session)
        except aiohttp.ClientPayloadError:
            pass
        else:  # it broke off before the head was sent on
            assert is_error(messages)
        alpha.on["tools/call"] = fixed(result=RESULT)
        assert await answered(gateway, session) == [result(1)]


async def waiting(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    """A part of an answer, and silence."""
    response = web.StreamResponse(headers={"content-type": JSON})
    await response.prepare(request)
    await response.write(b"{")
    await asyncio.Event().wait()
    return response


async def test_json_that_is_read_is_whole_or_an_error(
    start: StartGateway, alpha: ScriptedServer, servers: Behind
) -> None:
    """Its head waits for its body, as long as that is small: so Envoy can still give another answer."""
    async with start(servers(untrusted=True, timeout="2s")) as gateway:
        session = await gateway.initialize()
        for chunked in (False, True):
            id = f"é\\{chunked}"
            alpha.on["tools/call"] = responding(JSON, lambda _: '{"jsonrpc"', chunked=chunked, cut=True)
            [answer] = await answered(gateway, session, id=id)
            assert is_error([answer], id)
            assert "'alpha' failed" in answer["error"]["message"]
            assert (await gateway.logged(jsonrpc_request_id=json.dumps(id)))["error.type"] == "server_failed"
        alpha.on["tools/call"] = waiting
        [answer] = await answered(gateway, session)
        assert "StreamIdleTimeout" in answer["error"]["message"]
        large = {"content": [{"type": "text", "text": "x" * 2_000_000}]}
        alpha.on["tools/call"] = fixed(result=large)
        assert (await answered(gateway, session))[0]["result"] == large


# -- Compressed -----------------------------------------------------------------------------------------------------------


def compressed(kind: str, coding: str, *, spoiled: bool = False) -> Handler:
    """An answer with other headers about its body, too."""
    about = {"content-encoding": coding, "etag": '"1"', "content-language": "de", "digest": "x"}

    def body(id: Any) -> bytes:
        text = json.dumps(result(id)) if kind == JSON else event(LOGGED) + event(result(id))
        return text.encode() if spoiled else CODINGS[coding](text.encode())

    return responding(kind, body, about, chunked=kind == SSE)


async def test_compressed_answers_are_decoded(start: StartGateway, alpha: ScriptedServer, servers: Behind) -> None:
    """Nobody asked for that. Nothing about the body that was replaced is left, whether it could be read or not."""
    async with start(servers(untrusted=True)) as gateway:
        session = await gateway.initialize()
        for coding in CODINGS:
            alpha.on["tools/call"] = compressed(JSON, coding)
            assert await answered(gateway, session) == [result(1)], coding
            assert alpha.calls("tools/call")[-1].headers["accept-encoding"] == "identity"
            alpha.on["tools/call"] = compressed(SSE, coding)
            logged, last = await answered(gateway, session)
            assert (logged["params"]["data"], last) == ("x", result(1)), coding
        for coding in (*CODINGS, "compress", "gzip, br"):
            for kind in (JSON, SSE):
                alpha.on["tools/call"] = compressed(kind, coding, spoiled=True)
                assert is_error(await answered(gateway, session)), coding


async def test_failures_keep_nothing_of_the_body_that_they_replace(
    start: StartGateway, alpha: ScriptedServer, servers: Behind
) -> None:
    async def failing(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        headers = {"content-type": "text/html", "content-encoding": "gzip", "etag": '"1"', "content-language": "de"}
        return web.Response(status=502, headers=headers, body=gzip.compress(b"<h1>no</h1>"))

    alpha.on["tools/call"] = failing
    async with start(servers()) as gateway:
        assert is_error(await answered(gateway, await gateway.initialize()))


# -- Trailers ---------------------------------------------------------------------------------------------------------------

TRAILERS = [("x-sum", "1")]


@pytest.mark.parametrize("stateless", [False, True], ids=["session", "no session"])
async def test_answers_that_end_with_trailers(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, stateless: bool
) -> None:
    """JSON that is read, and event streams, are whole and end."""
    alpha.stateless = stateless
    async with Http2Front(alpha.url, trailers=TRAILERS) as front:
        async with start(
            servers(url=f"http://127.0.0.1:{front.port}/mcp", http2=True, untrusted=True, timeout="2s")
        ) as gateway:
            session = await gateway.initialize()
            alpha.on["tools/call"] = fixed(result=RESULT)
            assert await answered(gateway, session) == [result(1)]
            alpha.on["tools/call"] = responding(SSE, lambda number: event(LOGGED) + event(result(number)), chunked=True)
            logged, last = await answered(gateway, session)
            assert (logged["params"]["data"], last) == ("x", result(1))
            async with calling(gateway, session, "alpha__echo") as events:
                assert (await events.rest())[-1] == result(1)
            # Envoy tells of trailers behind the answer to the head only: so this one is taken to be silent.
            alpha.on["tools/call"] = responding(JSON, lambda _: '{"jsonrpc"')
            assert is_error(await answered(gateway, session))
