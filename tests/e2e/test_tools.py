"""``mcp-extproc tools`` and ``call``: by hand what agents do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from mcp_extproc.cli import cli
from mcp_extproc.client import session
from tests.e2e.conftest import StartGateway
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer, answer, as_event, raw, tool

SCHEMA = {"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]}


async def run(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "120"}).invoke, cli, words)


async def test_tools_of_a_gateway_are_listed_and_called(start: StartGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("look", inputSchema=SCHEMA, description="Looks.\nAt length.")], [tool("echo")]]
    async with start({"alpha": alpha.url, "gone": f"http://127.0.0.1:{free_port()}/mcp"}) as gateway:
        listed = await run("tools", gateway.url)
        assert "the tools of server gone are not among them: it is unreachable" in listed.stderr
        assert (listed.exit_code, [line.split() for line in listed.stdout.splitlines()]) == (0, [
            ["tool", "arguments", "description"],
            ["alpha__look", "lines=integer", "Looks."],
            ["alpha__echo", "The", "tool", "echo"],
        ])  # fmt: skip
        as_json = await run("tools", gateway.url, "--json")
        assert json.loads(as_json.stdout)["tools"][0]["inputSchema"] == SCHEMA
        called = await run("call", gateway.url, "alpha__look", "lines=12345678901234567890")
        assert (called.exit_code, called.stdout) == (0, '["look", {"lines": 12345678901234567890}]\n')
        unknown = await run("call", gateway.url, "gone__echo")
        assert unknown.exit_code == 1
        assert (
            "; the endpoint lists no tool gone__echo; the tools of server gone are not among them: it is unreachable"
            in unknown.stderr
        )
        unknown = await run("call", gateway.url, "alpa__look", "--json")
        assert (unknown.exit_code, json.loads(unknown.stdout)["error"]["code"]) == (1, -32602)
        assert "(-32602); the endpoint lists no tool alpa__look, did you mean alpha__look?" in unknown.stderr
        called = await run("call", gateway.url, "alpha__echo", "any=x", "--json")
        assert json.loads(called.stdout)["content"] == [{"type": "text", "text": '["echo", {"any": "x"}]'}]
    assert not alpha.sessions, "each command ends its session"


async def test_exit_codes_say_what_became_of_a_call(alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("look", inputSchema=SCHEMA)]]
    said = [{"type": "text", "text": "no such file"}]

    async def fails(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, result={"content": said, "isError": True})

    alpha.on["tools/call"] = fails
    tool_error = await run("call", alpha.url, "look", "lines=1")
    assert (tool_error.exit_code, tool_error.stdout) == (3, "no such file\n")
    for words, why in ((["lines=x"], "lines takes integer"), ([], "lines is required"), (["x"], "not KEY=VALUE")):
        misused = await run("call", alpha.url, "look", *words)
        assert (misused.exit_code, why in misused.stderr) == (2, True), misused.stderr

    async def refuses(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, error={"code": -32602, "message": "not\x1b[2J\nso"})

    alpha.on["tools/call"] = refuses
    refused = await run("call", alpha.url, "look", "lines=1", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["error"]["code"]) == (1, -32602)
    assert r"not\u001b[2J\nso (-32602)" in refused.stderr


async def test_an_argument_that_the_tool_does_not_have_is_warned_of(alpha: ScriptedServer) -> None:
    """And sent: whether it is wrong is the server's to say."""
    alpha.pages = [[tool("look", inputSchema=SCHEMA)]]
    called = await run("call", alpha.url, "look", "lines=1", "line=2")
    assert (called.exit_code, called.stdout) == (0, '["look", {"lines": 1, "line": 2}]\n')
    assert "line is no argument of this tool, did you mean lines?" in called.stderr
    known = await run("call", alpha.url, "look", "lines=1")
    assert (known.exit_code, known.stderr) == (0, "")


async def test_what_is_not_listed_is_called_all_the_same(alpha: ScriptedServer) -> None:
    """Whether there is such a tool is the endpoint's to say."""
    alpha.pages = [[tool("look", inputSchema=SCHEMA), tool("lock")]]
    called = await run("call", alpha.url, "loock", "lines=3", "id=x")
    assert (called.exit_code, called.stdout) == (0, '["loock", {"lines": 3, "id": "x"}]\n')
    assert "the endpoint lists no tool loock, did you mean look or lock?" in called.stderr
    misused = await run("call", alpha.url, "loock", "x")
    assert (misused.exit_code, "not KEY=VALUE" in misused.stderr) == (2, True)


@pytest.mark.parametrize(("code", "is_unknown"), [(-32602, True), (-32601, True), (-32600, False), (-32603, False)])
async def test_no_other_tool_is_proposed_after_a_denial(alpha: ScriptedServer, code: int, is_unknown: bool) -> None:
    """It may be the one that destroys."""
    alpha.pages = [[tool("notes__delete")]]

    async def refuses(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, error={"code": code, "message": "no"})

    alpha.on["tools/call"] = refuses
    refused = await run("call", alpha.url, "notes__create")
    assert refused.exit_code == 1
    assert f"no ({code}); the endpoint lists no tool notes__create" in refused.stderr
    assert ("did you mean notes__delete?" in refused.stderr) is is_unknown


async def test_headers_go_with_each_request(alpha: ScriptedServer) -> None:
    done = await run("call", alpha.url, "echo", "-H", "Authorization: Bearer hush", "-H", "x-tenant:acme")
    assert done.exit_code == 0
    assert {(got.headers.get("authorization"), got.headers.get("x-tenant")) for got in alpha.received} == {
        ("Bearer hush", "acme")
    }
    assert [got.http_method for got in alpha.received][-1] == "DELETE"
    for header in ("hush", "a b: hush", "x-key: hu\nsh"):
        refused = await run("tools", alpha.url, "-H", header)
        assert (refused.exit_code, "hu" in refused.stderr) == (2, False)


async def test_answers_in_event_streams(alpha: ScriptedServer) -> None:
    """With what servers ask in between: pings are answered, and nobody is there to be asked."""

    async def asks(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        for id, method in (("p", "ping"), ("e", "elicitation/create")):
            question = {"jsonrpc": "2.0", "id": id, "method": method}
            await stream.write(b"data: %b\n\n" % json.dumps(question).encode())
        await stream.write(b"id: 7\nretry: 1\ndata:\n\n")
        return stream

    async def goes_on(request: web.Request) -> web.StreamResponse:
        assert request.headers["last-event-id"] == "7"
        [called] = alpha.calls("tools/call")
        return as_event(answer(called.message, result={"content": [{"type": "text", "text": "at last"}]}))

    alpha.on["tools/call"], alpha.get = asks, goes_on
    done = await run("call", alpha.url, "echo")
    assert (done.exit_code, done.stdout) == (0, "at last\n"), done.stderr
    sent = [got.message for got in alpha.received if got.http_method == "POST" and "method" not in got.message]
    assert [(one["id"], one.get("result"), one.get("error", {}).get("code")) for one in sent] == [
        ("p", {}, None),
        ("e", None, -32601),
    ]


@pytest.mark.parametrize(
    ("status", "type", "body", "why"),
    [
        (401, "application/json", '{"id":null,"error":{"code":-32600,"message":"no token"}}', "HTTP 401: no token"),
        (502, "text/html", "<b>", "answered HTTP 502"),
        (200, "text/html", "<b>", "no JSON-RPC message"),
        (200, "application/json", "{}", "neither a result nor an error"),
        (200, "text/event-stream", ": hi\n\n", "ended the stream before the answer"),
    ],
)
async def test_no_endpoint_is_there(alpha: ScriptedServer, status: int, type: str, body: str, why: str) -> None:
    alpha.on["initialize"] = raw(status, type, body)
    done = await run("tools", alpha.url)
    assert (done.exit_code, why in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    assert ("is sent with -H, such as -H 'x-api-key: KEY'" in done.stderr) is (status == 401)


async def test_nobody_is_there(alpha: ScriptedServer) -> None:
    await alpha.stop()
    done = await run("tools", alpha.url)
    assert (done.exit_code, "Connection refused" in done.stderr) == (1, True), done.stderr
    for url in ("alpha", "ftp://localhost/mcp", "http://", "http://localhost:x/mcp"):
        assert (await run("tools", url)).exit_code == 2


async def test_attack_a_list_without_end(alpha: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it together is bounded, not each page alone."""
    monkeypatch.setattr(session, "MAX_BYTES", 100_000)
    pages = []

    async def lists(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        pages.append(message)
        return answer(message, result={"tools": [tool("x" * 30_000)], "nextCursor": "more"})

    alpha.on["tools/list"] = lists
    result = await run("tools", alpha.url)
    assert (result.exit_code, result.stdout, 1 < len(pages) < 10) == (1, "", True)
    assert "has more than 0 MiB of tools" in result.stderr


async def test_attack_what_a_server_says_at_length_is_cut(alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("t" * 5000, description="d" * 50_000)]]
    listed = await run("tools", alpha.url)
    assert (listed.exit_code, len(listed.stdout) < 20_000, "d…" in listed.stdout) == (0, True, True)

    async def refuses(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, error={"code": "c" * 50_000, "message": "m" * 50_000})

    alpha.on["tools/list"] = refuses
    refused = await run("tools", alpha.url)
    assert (refused.exit_code, len(refused.stderr) < 2000, "m…" in refused.stderr) == (1, True, True)
