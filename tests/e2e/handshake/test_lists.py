"""Lists of all kinds, names of prompts, and whom the gateway asks for what, through real Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import ScriptedServer, answer, fixed, tool

# method, member of the result, what an entry is known by, an entry's own, as seen from server "alpha"
LISTS = [
    ("tools/list", "tools", "name", "n", "alpha__n"),
    ("prompts/list", "prompts", "name", "n", "alpha__n"),
    ("resources/list", "resources", "uri", "x:/n", "alpha+x:/n"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate", "x:/{n}", "alpha+x:/{n}"),
]
ALL: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "completions": {}, "logging": {}}


@pytest.mark.parametrize(("method", "items", "key", "own", "seen"), LISTS)
async def test_every_list_is_merged_whole_and_verbatim(
    start: StartGateway,
    alpha: ScriptedServer,
    beta: ScriptedServer,
    method: str,
    items: str,
    key: str,
    own: str,
    seen: str,
) -> None:
    """Pages arrive as one, entries unchanged but for name or URI, in the order of the servers; no cursor is ours."""
    entry = {"title": own, key: own, "n": 12345678901234567890, "f": 1.0, "future": [own], "_meta": {"v/x": own}}

    async def pages(request: object, message: dict[str, Any]) -> Any:
        cursor = (message.get("params") or {}).get("cursor")
        if cursor is None:
            return answer(message, result={items: [entry], "nextCursor": ""})
        assert cursor == ""
        return answer(message, result={items: [{**entry, key: own + "2"}]})

    alpha.capabilities = beta.capabilities = ALL
    alpha.on[method] = pages
    beta.on[method] = fixed(result={items: [entry]})
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        listed = await gateway.rpc(method, mcp_session_id=session)
        assert [e[key] for e in listed.result[items]] == [seen, seen + "2", seen.replace("alpha", "beta")]
        assert set(listed.result) == {items}
        assert json.dumps(entry).replace(f'"{key}": "{own}"', f'"{key}": "{seen}"').encode() in listed.body
        for cursor in ("zzz", "", 1):
            refused = await gateway.rpc(method, {"cursor": cursor}, mcp_session_id=session)
            assert (refused.status, refused.error["code"]) == (200, -32602)


@pytest.mark.parametrize(("method", "items", "key", "own", "seen"), LISTS)
async def test_one_dead_server_does_not_empty_a_list(
    start: StartGateway,
    alpha: ScriptedServer,
    beta: ScriptedServer,
    method: str,
    items: str,
    key: str,
    own: str,
    seen: str,
) -> None:
    """The others' entries, and who is missing; with all dead -32603, and never an empty list."""
    alpha.capabilities = beta.capabilities = ALL
    alpha.on[method] = fixed(result={items: [{key: own}]})
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        beta.on[method] = fixed(error={"code": -32603, "message": "sorry"})
        partial = (await gateway.rpc(method, mcp_session_id=session)).result
        assert [e[key] for e in partial[items]] == [seen]
        [missing] = partial["_meta"]["mcp-extproc/unavailable"]
        assert (missing["server"], missing["reason"]) == ("beta", "error")
        await beta.stop()
        partial = (await gateway.rpc(method, mcp_session_id=session)).result
        assert [e[key] for e in partial[items]] == [seen]
        await alpha.stop()
        nobody = await gateway.rpc(method, mcp_session_id=session)
        assert (nobody.status, nobody.error["code"], nobody.json["id"]) == (200, -32603, 1)


async def test_two_sessions_of_which_one_toggles_its_tools(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Each sees its own at once: what the gateway keeps of a merged list is no other session's, nor that of a moment ago."""
    toggled: set[str] = set()

    async def listing(request: Any, message: dict[str, Any]) -> Any:
        extra = [tool("extra")] if request.headers["mcp-session-id"] in toggled else []
        return answer(message, result={"tools": [tool("toggle"), *extra]})

    async def toggle(request: Any, message: dict[str, Any]) -> Any:
        toggled.symmetric_difference_update({request.headers["mcp-session-id"]})
        return answer(message, result={"content": []})

    alpha.on |= {"tools/list": listing, "tools/call": toggle}
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        one, other = await gateway.initialize(), await gateway.initialize()

        async def seen(session: str) -> list[str]:
            listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
            return [entry["name"] for entry in listed["tools"]]

        few, all = ["alpha__toggle", "beta__echo"], ["alpha__toggle", "alpha__extra", "beta__echo"]
        assert [await seen(one), await seen(other)] == [few, few]
        for session, expected in ((one, [all, few]), (other, [all, all]), (one, [few, all])):
            await gateway.call(session, "alpha__toggle")
            for _ in range(2):
                assert [await seen(one), await seen(other)] == expected
        assert len(beta.calls("tools/list")) == len(alpha.calls("tools/list")) == 14


async def test_a_server_is_asked_only_for_what_it_advertised(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """``{}`` means supported (section 4); nothing else reaches a server, and the union is what clients are told."""
    alpha.capabilities = {"tools": {}, "experimental": {"x": {}}, "tasks": {"requests": {"tools": {"call": {}}}}}
    beta.capabilities = {"prompts": {}, "resources": {}, "extensions": {"io.x/y": {}}}
    for server in (alpha, beta):
        server.on["prompts/list"] = fixed(result={"prompts": [{"name": "p"}]})
        server.on["resources/list"] = fixed(result={"resources": [{"uri": "x:/1", "name": ""}]})
        server.on["resources/templates/list"] = fixed(result={"resourceTemplates": []})
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        opened = await gateway.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        assert opened.result["capabilities"] == {
            "tools": {"listChanged": True},
            "prompts": {"listChanged": True},
            "resources": {"listChanged": True},
        }
        session = opened.headers["mcp-session-id"]
        before = {"alpha": len(alpha.received), "beta": len(beta.received)}
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo"]
        listed = (await gateway.rpc("prompts/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["prompts"]] == ["beta__p"]
        listed = (await gateway.rpc("resources/list", mcp_session_id=session)).result
        assert [entry["uri"] for entry in listed["resources"]] == ["beta+x:/1"]
        assert (await gateway.rpc("logging/setLevel", {"level": "info"}, mcp_session_id=session)).result == {}
        for method, params, code in (
            ("tools/call", {"name": "beta__echo"}, -32602),
            ("prompts/get", {"name": "alpha__p"}, -32602),
            ("resources/read", {"uri": "alpha+x:/1"}, -32601),
            ("resources/subscribe", {"uri": "beta+x:/1"}, -32601),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "alpha__p"}}, -32602),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "beta__p"}}, -32601),
            ("completion/complete", {"ref": {"type": "ref/resource", "uri": "beta+x:/1"}}, -32601),
        ):
            refused = await gateway.rpc(method, params, mcp_session_id=session)
            assert (refused.status, refused.error["code"]) == (200, code), (method, params)
        asked = {s.name: [r.message["method"] for r in s.received[before[s.name] :]] for s in (alpha, beta)}
        assert asked == {"alpha": ["tools/list"], "beta": ["prompts/list", "resources/list"]}


async def test_a_server_that_was_down_may_offer_anything(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Nothing can be declared after ``initialize``, so all is; once the server is there, only what it has is asked of it."""
    alpha.capabilities = {"tools": {}}
    beta.capabilities = {"prompts": {}, "logging": {}}
    beta.on["prompts/list"] = fixed(result={"prompts": [{"name": "p"}]})
    beta.on["prompts/get"] = fixed(result={"messages": []})
    beta.on["logging/setLevel"] = fixed(result={})
    await beta.stop()
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        opened = await gateway.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        told = opened.result["capabilities"]
        assert set(told) == {"tools", "prompts", "resources", "completions", "logging"}
        assert told["resources"] == {"listChanged": True, "subscribe": True}
        session = opened.headers["mcp-session-id"]
        await beta.restart()
        # Opened by whatever may concern it, and left alone where it turns out not to offer that.
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo"]
        refused = await gateway.rpc("resources/read", {"uri": "beta+x:/1"}, mcp_session_id=session)
        assert (refused.status, refused.error["code"]) == (200, -32601)
        assert (await gateway.rpc("prompts/get", {"name": "beta__p"}, mcp_session_id=session)).result["messages"] == []
        listed = (await gateway.rpc("prompts/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["prompts"]] == ["beta__p"]
        assert (await gateway.rpc("logging/setLevel", {"level": "info"}, mcp_session_id=session)).result == {}
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo"]
        methods = [r.message["method"] for r in beta.received]
        assert methods == [
            "initialize", "notifications/initialized", "prompts/get", "prompts/list", "logging/setLevel",
        ]  # fmt: skip
        assert len(alpha.calls("logging/setLevel")) == 0


async def test_prompts_and_their_completion(start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Found by name like tools, in names of their own; arguments and context pass."""
    for server in (alpha, beta):
        server.capabilities = ALL
        server.on["prompts/get"] = _told_by(server.name)
        server.on["completion/complete"] = _told_by(server.name)
    async with start({"alpha": alpha.url, "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        params: dict[str, Any] = {"name": "beta__echo", "arguments": {"a": "beta__echo"}}
        got = (await gateway.rpc("prompts/get", params, mcp_session_id=session)).result
        assert got == {"server": "beta", "params": {**params, "name": "echo"}}
        params = {
            "ref": {"type": "ref/prompt", "name": "alpha__p", "title": "alpha__p"},
            "argument": {"name": "alpha__a", "value": ""},
            "context": {"arguments": {"b": "c"}},
        }
        got = (await gateway.rpc("completion/complete", params, mcp_session_id=session)).result
        assert got == {"server": "alpha", "params": {**params, "ref": {**params["ref"], "name": "p"}}}
        called = alpha.calls("completion/complete")[0].headers
        assert (called["mcp-method"], called["mcp-name"]) == ("completion/complete", "p")
        before = len(alpha.received) + len(beta.received)
        for method, wrong, code in (
            ("prompts/get", {"name": "nobody__p"}, -32602),
            ("prompts/get", {"name": "alpha__"}, -32602),
            ("prompts/get", {"name": 1}, -32602),
            ("prompts/get", None, -32602),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}}, -32602),
            ("completion/complete", {"ref": {"type": "ref/prompt", "uri": "alpha+x:/"}}, -32602),
            ("completion/complete", {"ref": {"type": "ref/tool", "name": "alpha__p"}}, -32602),
            ("completion/complete", {"ref": "alpha__p"}, -32602),
            ("completion/complete", {}, -32602),
        ):
            refused = await gateway.rpc(method, wrong, mcp_session_id=session)
            assert (refused.status, refused.error["code"]) == (200, code), (method, wrong)
        assert len(alpha.received) + len(beta.received) == before


async def test_bare_names_where_exactly_one_server_has_them(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """Tools, prompts and references; what two servers have, or none, or a filter hides, is unknown."""
    alpha.pages = [[tool("both"), tool("a"), tool("hidden")]]
    beta.pages = [[tool("both"), tool("b")]]
    for server in (alpha, beta):
        server.capabilities = ALL
        server.on["prompts/list"] = fixed(result={"prompts": [{"name": "both"}, {"name": f"p-{server.name}"}]})
        server.on["prompts/get"] = _told_by(server.name)
        server.on["completion/complete"] = _told_by(server.name)
    servers = {"alpha": {"url": alpha.url, "tools": {"exclude": ["hidden"]}}, "beta": beta.url}
    async with start(servers, bare_names=True) as gateway:
        session = await gateway.initialize()
        body = b'{"jsonrpc":"2.0", "id":1,"method":"tools/call","params":{ "name":"b" }}'
        assert (await gateway.send(body, mcp_session_id=session)).result
        assert beta.calls("tools/call")[0].body == body
        assert (await gateway.call(session, "a")).result
        assert (await gateway.call(session, "alpha__both")).result
        assert [len(server.calls("tools/list")) for server in (alpha, beta)] == [1, 1]
        for name in ("both", "hidden", "nobody", "p-alpha"):
            refused = await gateway.call(session, name)
            assert (refused.status, refused.error["code"]) == (200, -32602)
        got = (await gateway.rpc("prompts/get", {"name": "p-beta"}, mcp_session_id=session)).result
        assert got == {"server": "beta", "params": {"name": "p-beta"}}
        params = {"ref": {"type": "ref/prompt", "name": "p-alpha"}, "argument": {"name": "a", "value": ""}}
        got = (await gateway.rpc("completion/complete", params, mcp_session_id=session)).result
        assert got == {"server": "alpha", "params": params}
        # Clients still see prefixes.
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [e["name"] for e in listed["tools"]] == ["alpha__both", "alpha__a", "beta__both", "beta__b"]
        assert len(alpha.calls("tools/call")) == 2


async def test_bare_names_are_not_remembered_while_a_server_is_missing(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """A name that only seems to be one server's own becomes ambiguous when the other is back."""
    async with start({"alpha": alpha.url, "beta": beta.url}, bare_names=True) as gateway:
        session = await gateway.initialize()
        await beta.stop()
        assert (await gateway.call(session, "echo")).result
        await beta.restart()
        assert (await gateway.call(session, "echo")).error["code"] == -32602


async def test_bare_names_are_off_by_default(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "echo")).error["code"] == -32602
        assert alpha.calls("tools/list") == []


async def test_tasks_are_not_offered(start: StartGateway, alpha: ScriptedServer) -> None:
    """``tasks/*`` is unknown, ``task`` is taken out of a call, and a tool that needs it is not listed."""
    alpha.capabilities = {"tools": {}, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}
    alpha.pages = [[tool(mode, execution={"taskSupport": mode}) for mode in ("required", "optional", "forbidden")]]
    async with start({"alpha": alpha.url}) as gateway:
        opened = await gateway.rpc("initialize", {
            "protocolVersion": "2025-11-25", "capabilities": {"tasks": {"requests": {"sampling": {"createMessage": {}}}}},
        })  # fmt: skip
        assert "tasks" not in opened.result["capabilities"]
        assert alpha.calls("initialize")[0].message["params"]["capabilities"] == {}
        session = opened.headers["mcp-session-id"]
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__optional", "alpha__forbidden"]
        before = len(alpha.received)
        for method in ("tasks/get", "tasks/result", "tasks/cancel", "tasks/list"):
            refused = await gateway.rpc(method, {"taskId": "t"}, mcp_session_id=session)
            assert (refused.status, refused.error["code"]) == (200, -32601)
        assert len(alpha.received) == before
        for given, sent in (
            (b'{"name":"alpha__t","task":{"ttl":1},"arguments":{"task":1}}', b'{"name":"t","arguments":{"task":1}}'),
            (b'{ "task" : null, "name":"alpha__t" }', b'{"name":"t"}'),
        ):
            body = b'{"jsonrpc":"2.0", "id":"x","method":"tools/call","params":%s}'
            assert (await gateway.send(body % given, mcp_session_id=session)).result["content"]
            assert alpha.calls("tools/call")[-1].body == body % sent


@pytest.mark.parametrize("level", ["debug", "emergency"])
async def test_levels_go_to_every_server_that_logs(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, level: str
) -> None:
    alpha.capabilities = beta.capabilities = {"tools": {}, "logging": {}}
    alpha.on["logging/setLevel"] = beta.on["logging/setLevel"] = fixed(result={})
    async with (
        ScriptedServer("mute") as mute,
        start({"alpha": alpha.url, "mute": mute.url, "beta": beta.url}) as gateway,
    ):
        session = await gateway.initialize()
        assert (await _set_level(gateway, session, level)).result == {}
        for server in (alpha, beta):
            assert [call.message["params"] for call in server.calls("logging/setLevel")] == [{"level": level}]
        assert mute.calls("logging/setLevel") == []
        # One server's refusal is not the client's business; everybody's is.
        alpha.on["logging/setLevel"] = fixed(error={"code": -32603, "message": "no"})
        assert (await _set_level(gateway, session, level)).result == {}
        beta.on["logging/setLevel"] = alpha.on["logging/setLevel"]
        assert (await _set_level(gateway, session, level)).error["code"] == -32603
        before = len(alpha.received)
        for wrong in ("loud", "INFO", "", 3, None):
            refused = await _set_level(gateway, session, wrong)
            assert (refused.status, refused.error["code"]) == (200, -32602)
        assert len(alpha.received) == before


async def _set_level(gateway: TestGateway, session: str, level: object) -> Any:
    return await gateway.rpc("logging/setLevel", {"level": level}, mcp_session_id=session)


def _told_by(server: str) -> Any:
    async def handler(request: object, message: dict[str, Any]) -> Any:
        return answer(message, result={"server": server, "params": message["params"]})

    return handler
