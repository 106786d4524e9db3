"""The rule for URIs of resources: every URI that a server handed out stays readable, through real Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import ScriptedServer, answer, fixed, tool

URIS = ["file:///a", "ui://view/1", "git+ssh://h/r"]
TEMPLATES = ["file:///{path}", "{+any}", "ui://{view}"]


@pytest.fixture(autouse=True)
def libraries(alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Two servers whose resources have the same URIs."""
    for server in (alpha, beta):
        _make_library(server)


def _make_library(server: ScriptedServer) -> None:
    server.capabilities = {"resources": {"subscribe": True}, "tools": {}, "prompts": {}, "completions": {}}
    server.on["resources/list"] = fixed(result={"resources": [{"uri": uri, "name": uri} for uri in URIS]})
    server.on["resources/templates/list"] = fixed(
        result={"resourceTemplates": [{"uriTemplate": text, "name": text} for text in TEMPLATES]}
    )

    async def read(request: object, message: dict[str, Any]) -> Any:
        uri = message["params"]["uri"]
        contents = [{"uri": uri, "text": server.name}, {"uri": f"{uri}/sub", "text": uri, "size": 2**53 + 1}]
        return answer(message, result={"contents": contents})

    server.on["resources/read"] = read


async def _read(gateway: TestGateway, session: str, uri: str) -> list[dict[str, Any]]:
    contents = (await gateway.rpc("resources/read", {"uri": uri}, mcp_session_id=session)).result["contents"]
    assert isinstance(contents, list)
    return contents


async def _listed(gateway: TestGateway, session: str, method: str = "resources/list") -> list[str]:
    result = (await gateway.rpc(method, mcp_session_id=session)).result
    [entries] = [value for name, value in result.items() if name != "_meta"]
    return [entry.get("uri") or entry["uriTemplate"] for entry in entries]


async def test_whatever_is_listed_is_readable(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        listed = await _listed(gateway, session)
        assert listed == [
            "alpha+file:///a", "ui://alpha/view/1", "alpha+git+ssh://h/r",
            "beta+file:///a", "ui://beta/view/1", "beta+git+ssh://h/r",
        ]  # fmt: skip
        for uri, own, server in zip(listed, URIS * 2, [alpha] * 3 + [beta] * 3, strict=True):
            whole, part = await _read(gateway, session, uri)
            assert (whole["uri"], whole["text"]) == (uri, server.name)
            assert (part["uri"], part["text"], part["size"]) == (f"{uri}/sub", own, 2**53 + 1)
            # What was handed out in a result, and stands in no list, is readable too.
            assert (await _read(gateway, session, part["uri"]))[0]["text"] == server.name
            assert server.calls("resources/read")[-1].message["params"]["uri"] == f"{own}/sub"


async def test_schemes_and_views_ignore_case(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """URL classes write schemes and hosts in lower case (RFC 3986 section 6.2.2.1); a prefix may have capitals."""
    async with start({"Alpha_1": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        assert (await _listed(gateway, session))[:2] == ["alpha-1+file:///a", "ui://alpha-1/view/1"]
        for given, own in (
            ("ALPHA-1+file:///a", "file:///a"),
            ("alpha-1+FILE:///A", "FILE:///A"),
            ("UI://Alpha-1/view/1", "UI://view/1"),
        ):
            assert (await _read(gateway, session, given))[0]["text"] == "alpha"
            assert alpha.calls("resources/read")[-1].message["params"]["uri"] == own


async def test_uris_of_nobody(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """-32002 with ``data.uri``, HTTP 200, no server asked."""
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        before = len(alpha.received) + len(beta.received)
        for uri in ("file:///a", "gamma+file:///a", "ui://view/1", "ui://alpha", "alphafile:///a", "+file:///a", ""):
            for method in ("resources/read", "resources/subscribe", "resources/unsubscribe"):
                refused = await gateway.rpc(method, {"uri": uri}, mcp_session_id=session)
                assert (refused.status, refused.error["code"], refused.error["data"]) == (200, -32002, {"uri": uri})
        for params in ({}, {"uri": 1}, {"uri": None}, None):
            refused = await gateway.rpc("resources/read", params, mcp_session_id=session)
            assert (refused.status, refused.error["code"]) == (200, -32602)
        assert len(alpha.received) + len(beta.received) == before


async def test_templates_expand_to_readable_uris(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        templates = await _listed(gateway, session, "resources/templates/list")
        assert templates[3:] == ["beta+file:///{path}", "beta+{+any}", "ui://beta/{view}"]
        for template, variable, value, own in (
            (templates[3], "{path}", "x%2Fy", "file:///x%2Fy"),
            (templates[4], "{+any}", "http://h/x+y", "http://h/x+y"),
            (templates[5], "{view}", "v", "ui://v"),
        ):
            await _read(gateway, session, template.replace(variable, value))
            assert beta.calls("resources/read")[-1].message["params"]["uri"] == own
        assert alpha.calls("resources/read") == []


async def test_a_single_servers_uris_stay_untouched(start: StartGateway, alpha: ScriptedServer) -> None:
    """Requests byte for byte, answers too; also what would be a prefix if there were more servers."""
    text = b'{"jsonrpc": "2.0", "id":1,"result":{ "contents": [{"uri":"other:\\/\\/x", "text":"", "n": 1.0}]} }'

    async def raw(request: object, message: dict[str, Any]) -> Any:
        from aiohttp import web

        return web.Response(body=text, content_type="application/json")

    alpha.on["resources/read"] = raw
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        assert await _listed(gateway, session) == URIS
        assert await _listed(gateway, session, "resources/templates/list") == TEMPLATES
        for uri in ("file:///a", "alpha+file:///a", "ui://alpha/x", "FILE:///a"):
            body = b'{ "jsonrpc":"2.0", "id":1, "method":"resources/read", "params":{ "uri":"%b" } }' % uri.encode()
            assert (await gateway.send(body, mcp_session_id=session)).body == text
            assert alpha.calls("resources/read")[-1].body == body


async def test_a_server_without_prefix_among_others(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Its URIs stay, but for those that would be read at another server: these get its name in front."""
    mine = ["file:///a", "beta+file:///stolen", "ui://beta/stolen", "ui://view/1"]
    alpha.on["resources/list"] = fixed(result={"resources": [{"uri": uri, "name": uri} for uri in mine]})
    async with start({"alpha": {"url": alpha.url, "prefix": ""}, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        assert (await _listed(gateway, session))[:5] == [
            "file:///a",
            "alpha+beta+file:///stolen",
            "ui://alpha/beta/stolen",
            "ui://view/1",
            "beta+file:///a",
        ]
        assert (await _read(gateway, session, "alpha+beta+file:///stolen"))[0]["text"] == "alpha"
        assert (await _read(gateway, session, "ui://alpha/beta/stolen"))[0]["text"] == "alpha"
        assert (await _read(gateway, session, "file:///a"))[0] == {"uri": "file:///a", "text": "alpha"}
        assert (await _read(gateway, session, "ui://view/1"))[0]["text"] == "alpha"
        assert (await _read(gateway, session, "ui://beta/view/1"))[0]["text"] == "beta"
        assert (await _read(gateway, session, "beta+file:///a"))[0]["text"] == "beta"


# -- Unprefixed -----------------------------------------------------------------------------------------------------------


async def test_unprefixed_uris_stay_where_one_server_has_them(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Only what two servers list is told apart by a prefix; what a template made is found by its template."""
    alpha.on["resources/list"] = fixed(result={"resources": [{"uri": u, "name": u} for u in ("x:/both", "x:/a")]})
    beta.on["resources/list"] = fixed(result={"resources": [{"uri": u, "name": u} for u in ("x:/both", "x:/b")]})
    alpha.on["resources/templates/list"] = fixed(result={"resourceTemplates": [{"uriTemplate": "y:/{p}", "name": ""}]})
    beta.on["resources/templates/list"] = fixed(
        result={"resourceTemplates": [{"uriTemplate": "y:/long/{p}", "name": ""}]}
    )
    async with start({"alpha": alpha.url, "beta": beta.url}, resources="unprefixed") as gateway:
        session = await gateway.initialize()
        listed = await _listed(gateway, session)
        assert listed == ["alpha+x:/both", "x:/a", "beta+x:/both", "x:/b"]
        for uri, owner in zip(listed, ("alpha", "alpha", "beta", "beta"), strict=True):
            assert (await _read(gateway, session, uri))[0]["text"] == owner
        assert (await _read(gateway, session, "x:/b"))[1]["uri"] == "x:/b/sub"
        # Prefixed always works, and what it names is the server's own.
        assert (await _read(gateway, session, "alpha+x:/a"))[0]["text"] == "alpha"
        assert alpha.calls("resources/read")[-1].message["params"]["uri"] == "x:/a"
        assert await _listed(gateway, session, "resources/templates/list") == ["y:/{p}", "y:/long/{p}"]
        assert (await _read(gateway, session, "y:/z"))[0]["text"] == "alpha"
        assert (await _read(gateway, session, "y:/long/z"))[0]["text"] == "beta"
        asked = len(alpha.calls("resources/list"))
        for uri in ("x:/both", "z:/nobody"):
            refused = await gateway.rpc("resources/read", {"uri": uri}, mcp_session_id=session)
            assert (refused.status, refused.error["code"], refused.error["data"]) == (200, -32002, {"uri": uri})
        assert len(alpha.calls("resources/list")) == asked, "who has what is remembered"


async def test_unprefixed_results_stay_as_they_are(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Links of unprefixed servers, subscriptions and references to templates."""
    alpha.on["resources/list"] = fixed(result={"resources": [{"uri": "x:/a", "name": "a"}]})
    alpha.on["resources/templates/list"] = fixed(result={"resourceTemplates": [{"uriTemplate": "y:/{p}", "name": ""}]})
    link = {"type": "resource_link", "uri": "x:/a", "name": "a"}
    alpha.on["tools/call"] = fixed(result={"content": [link]})
    alpha.on["resources/subscribe"] = fixed(result={})
    alpha.on["completion/complete"] = fixed(result={"completion": {"values": ["v"]}})
    async with start({"alpha": alpha.url, "beta": beta.url}, resources="unprefixed") as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "alpha__echo")).result["content"] == [link]
        assert (await _read(gateway, session, "x:/a"))[0]["text"] == "alpha"
        assert (await gateway.rpc("resources/subscribe", {"uri": "x:/a"}, mcp_session_id=session)).result == {}
        assert alpha.calls("resources/subscribe")[0].message["params"] == {"uri": "x:/a"}
        params = {"ref": {"type": "ref/resource", "uri": "y:/{p}"}, "argument": {"name": "p", "value": ""}}
        completed = (await gateway.rpc("completion/complete", params, mcp_session_id=session)).result
        assert completed["completion"]["values"] == ["v"]
        assert alpha.calls("completion/complete")[0].message["params"] == params


# -- Wherever URIs stand ----------------------------------------------------------------------------------------------------

_EMBEDDED = {"type": "resource", "resource": {"uri": "x:/1", "text": "x:/1", "n": 2**63 + 1}}
_LINK = {"type": "resource_link", "uri": "x:/2", "name": "x:/2", "title": "Two"}
_RESULT = {
    "content": [{"type": "text", "text": "x:/0"}, _EMBEDDED, _LINK, {"type": "image", "data": "", "mimeType": "i/p"}],
    "structuredContent": {"uri": "x:/3", "resource": {"uri": "x:/3"}},
    "isError": True,
    "_meta": {"ui": {"resourceUri": "ui://v/1"}, "openai/outputTemplate": "ui://v/2", "vendor/uri": "x:/4"},
}
_SEEN_RESULT = {
    **_RESULT,
    "content": [
        _RESULT["content"][0],  # type: ignore[index]
        {"type": "resource", "resource": {"uri": "alpha+x:/1", "text": "x:/1", "n": 2**63 + 1}},
        {**_LINK, "uri": "alpha+x:/2"},
        _RESULT["content"][3],  # type: ignore[index]
    ],
    "_meta": {"ui": {"resourceUri": "ui://alpha/v/1"}, "openai/outputTemplate": "ui://alpha/v/2", "vendor/uri": "x:/4"},
}


@pytest.mark.parametrize("streamed", [False, True])
async def test_results_change_only_in_their_uris(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, streamed: bool
) -> None:
    """Embedded resources, links and views are rewritten; text, structured content, errors and numbers are not."""
    alpha.on["tools/call"] = _sse(_RESULT) if streamed else fixed(result=_RESULT)
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        for version in ("2025-06-18", "2025-11-25"):
            session = await gateway.initialize(version)
            got = await gateway.call(session, "alpha__echo")
            assert _message(got.body) == {"jsonrpc": "2.0", "id": 1, "result": _SEEN_RESULT}
            # The link need not be listed to be readable.
            assert (await _read(gateway, session, "alpha+x:/2"))[0] == {"uri": "alpha+x:/2", "text": "alpha"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("several", [False, True])
async def test_links_become_text_for_older_clients(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, several: bool, streamed: bool
) -> None:
    """2025-03-26 knows no ``resource_link``, and a server may speak a newer version than its client."""
    alpha.version = "2025-06-18"
    prompt = {"messages": [{"role": "user", "content": block} for block in (_LINK, _EMBEDDED)]}
    alpha.on["tools/call"] = _sse(_RESULT) if streamed else fixed(result=_RESULT)
    alpha.on["prompts/get"] = _sse(prompt) if streamed else fixed(result=prompt)
    servers = {"alpha": alpha.url, "beta": beta.url} if several else {"alpha": alpha.url}
    prefix = "alpha+" if several else ""
    text = {"type": "text", "text": f"Two: {prefix}x:/2"}
    embedded = {"type": "resource", "resource": {"uri": f"{prefix}x:/1", "text": "x:/1", "n": 2**63 + 1}}
    async with start(servers) as gateway:
        session = await gateway.initialize("2025-03-26")
        called = _message((await gateway.call(session, "alpha__echo")).body)["result"]
        assert called["content"][1:3] == [embedded, text]
        assert called["isError"] is True
        answer = await gateway.rpc("prompts/get", {"name": "alpha__p"}, mcp_session_id=session)
        assert [m["content"] for m in _message(answer.body)["result"]["messages"]] == [text, embedded]
        # The same server, a client that knows links.
        newer = await gateway.initialize("2025-06-18")
        called = _message((await gateway.call(newer, "alpha__echo")).body)["result"]
        assert called["content"][2] == {**_LINK, "uri": f"{prefix}x:/2"}


async def test_prompt_messages_and_views_of_tools(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """``messages[].content`` of prompts; ``_meta`` of tools in lists, in its present and its older spellings."""
    messages = [{"role": "user", "content": block} for block in (_LINK, _EMBEDDED, {"type": "text", "text": "x:/9"})]
    alpha.on["prompts/get"] = fixed(result={"messages": messages, "description": "x:/9"})
    meta = {"ui": {"resourceUri": "ui://v/1", "csp": "x:/1"}, "ui/resourceUri": "ui://v/2", "v/u": "ui://v/3"}
    alpha.pages = [[tool("echo", _meta=meta, uri="x:/8")]]
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        got = (await gateway.rpc("prompts/get", {"name": "alpha__p"}, mcp_session_id=session)).result
        assert got["description"] == "x:/9"
        assert [message["content"] for message in got["messages"]] == [
            {**_LINK, "uri": "alpha+x:/2"},
            {"type": "resource", "resource": {"uri": "alpha+x:/1", "text": "x:/1", "n": 2**63 + 1}},
            {"type": "text", "text": "x:/9"},
        ]
        [entry, _] = (await gateway.rpc("tools/list", mcp_session_id=session)).result["tools"]
        assert entry["_meta"] == {
            "ui": {"resourceUri": "ui://alpha/v/1", "csp": "x:/1"},
            "ui/resourceUri": "ui://alpha/v/2",
            "v/u": "ui://v/3",
        }
        assert entry["uri"] == "x:/8"
        # The view that the tool names is readable, and is what comes back.
        view = entry["_meta"]["ui"]["resourceUri"]
        assert (await _read(gateway, session, view))[0] == {"uri": view, "text": "alpha"}


@pytest.mark.parametrize("code", [-32002, -32602, 0])
async def test_errors_name_the_clients_uri(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, code: int
) -> None:
    """A server's own error passes with code, message and other data as they were."""
    error = {"code": code, "message": "no x:/gone", "data": {"uri": "x:/gone", "n": 2**63 + 1, "other": "x:/gone"}}
    alpha.on["resources/read"] = fixed(error=error)
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        got = await gateway.rpc("resources/read", {"uri": "alpha+x:/gone"}, id="r", mcp_session_id=session)
        seen = {**error, "data": {"uri": "alpha+x:/gone", "n": 2**63 + 1, "other": "x:/gone"}}
        assert (got.status, got.json) == (200, {"jsonrpc": "2.0", "id": "r", "error": seen})


async def test_completion_by_uri_and_by_template(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """The reference is the server's own again, every other byte of the parameters as it was sent."""
    values = {"values": ["x:/1"], "total": 2**53 + 1, "hasMore": True}
    beta.on["completion/complete"] = fixed(result={"completion": values})
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        for uri, own in (
            ("beta+file:///{path}", "file:///{path}"), ("beta+file:///a", "file:///a"), ("ui://beta/{view}", "ui://{view}"),
        ):  # fmt: skip
            body = (
                '{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{ "argument":{"name":"n", "value":"%s"},'
                ' "ref":{ "uri":"%s", "type":"ref/resource", "x":1.0 }, "context":{"arguments":{"a":"b"}} } }'
            )
            got = await gateway.send((body % ("beta+x", uri)).encode(), mcp_session_id=session)
            assert got.result == {"completion": values}
            assert beta.calls("completion/complete")[-1].body.decode() == body % ("beta+x", own)
        assert alpha.calls("completion/complete") == []
        params = {"ref": {"type": "ref/resource", "uri": "nobody+x:/1"}, "argument": {"name": "n", "value": ""}}
        refused = await gateway.rpc("completion/complete", params, mcp_session_id=session)
        assert (refused.status, refused.error["code"]) == (200, -32002)


async def test_subscriptions_use_the_servers_own_uri(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        for method in ("resources/subscribe", "resources/unsubscribe"):
            alpha.on[method] = fixed(result={})
            assert (await gateway.rpc(method, {"uri": "alpha+x:/1"}, mcp_session_id=session)).result == {}
            assert [call.message["params"] for call in alpha.calls(method)] == [{"uri": "x:/1"}]
            assert beta.calls(method) == []


def _sse(result: Any) -> Any:
    async def handler(request: Any, message: dict[str, Any]) -> Any:
        from aiohttp import web

        text = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return web.Response(text=f"event: message\ndata: {text}\n\n", content_type="text/event-stream")

    return handler


def _message(body: bytes) -> Any:
    """The only message of an answer, whichever form it has."""
    if body.startswith(b"{"):
        return json.loads(body)
    [data] = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return json.loads(data)
