"""Rate limits from the configuration, through real Envoy: what is counted, who counts, and what who is refused gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestGateway
from tests.support.policy_services import RateLimits
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer, fixed, tool
from tests.support.waiting import eventually

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: Envoy keeps counts from one test to the next."""
    return start_own


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    offers: dict[str, Any] = {"tools": {}, "prompts": {}}
    async with ScriptedServer("alpha", capabilities=offers, pages=[[tool("echo"), tool("slow")]]) as server:
        server.on["prompts/get"] = fixed(result={"messages": []})
        yield server


def is_limited(answer: Answer) -> bool:
    """A refusal for too many requests, complete: id, reason, and when to try again, twice."""
    if "error" not in answer.json:
        return False
    assert answer.status == 200
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= 3600
    assert answer.json["id"] == 1
    assert answer.error == {
        "code": -32603,
        "message": f"Too many requests: try again in {wait} s.",
        "data": {"reason": "rate_limited", "status": 429, "retryAfter": wait},
    }
    return True


async def calls(gateway: TestGateway, session: str, name: str, count: int) -> list[bool]:
    """Which of several calls in a row were let through."""
    return [not is_limited(await gateway.call(session, name)) for _ in range(count)]


async def test_so_many_calls_of_each_tool_and_nothing_else_counts(
    start: StartGateway, server: ScriptedServer, beta: ScriptedServer
) -> None:
    limit = {"by": ["tool"], "requests": 2, "per": "hour"}
    beta.pages = [[tool("echo")]]
    async with start({"alpha": server.url, "beta": beta.url}, rate_limits=[limit]) as gateway:
        one, two = await gateway.initialize(), await gateway.initialize()
        for _ in range(3):
            assert (await gateway.rpc("tools/list", mcp_session_id=one)).result["tools"]
            assert (await gateway.rpc("prompts/get", {"name": "alpha__echo"}, mcp_session_id=one)).result == {
                "messages": []
            }
        assert await calls(gateway, one, "alpha__echo", 1) == [True]
        assert await calls(gateway, two, "alpha__echo", 2) == [True, False]
        assert await calls(gateway, one, "alpha__slow", 3) == [True, True, False]
        assert await calls(gateway, one, "beta__echo", 3) == [True, True, False]
        answer = await gateway.call(one, "alpha__echo")
        assert answer.headers["retry-after"] == "1800"  # the time for one more


async def test_a_batch_is_no_way_around(start: StartGateway, server: ScriptedServer) -> None:
    limit = {"by": ["tool"], "requests": 3, "per": "hour"}
    async with start({"alpha": server.url}, rate_limits=[limit]) as gateway:
        session = await gateway.initialize("2025-03-26")
        assert await calls(gateway, session, "alpha__echo", 1) == [True]
        call = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "alpha__echo"}}
        answer = await gateway.send(
            json.dumps([{**call, "id": id} for id in range(4)]).encode(), mcp_session_id=session
        )
        got = json.loads(answer.body)
        assert sorted("result" in message for message in got) == [False, False, True, True]
        assert {m["error"]["data"]["reason"] for m in got if "error" in m} == {"rate_limited"}
        assert await calls(gateway, session, "alpha__echo", 1) == [False]


@pytest.mark.parametrize(
    ("limit", "let_through"),
    [
        # alpha__echo, alpha__echo, alpha__slow, prompts/get alpha__echo, ping, ping; then the same in another session.
        ({"by": ["server"]}, "100011 000011"),
        ({"by": ["session"]}, "100000 100000"),
        ({"by": ["session", "method"]}, "100110 100110"),
        ({"by": ["session", "tool"]}, "101111 101111"),
        ({"by": ["principal"]}, "100000 100000"),
        ({"match": {"tool": "echo"}}, "101111 001111"),
        ({"match": {"server": "alpha", "tool": "echo"}, "by": ["session"]}, "101111 101111"),
        ({"match": {"server": "other"}}, "111111 111111"),
        ({"match": {"method": "ping"}}, "111110 111100"),
    ],
    ids=str,
)
@pytest.mark.parametrize("scope", ["local", "global"])
async def test_what_is_counted(
    start: StartGateway, server: ScriptedServer, beta: ScriptedServer, limit: Any, let_through: str, scope: str
) -> None:
    rate_limits = [{**limit, "requests": 1, "per": "hour", "scope": scope}]
    async with (
        RateLimits(clock=lambda: 7200.0).serving() as service,
        start(
            {"alpha": server.url, "other": beta.url},
            rate_limits=rate_limits,
            rate_limit_service={"address": f"127.0.0.1:{service.port}", "timeout": "5s"},
            envoy={"principal": {"header": "x-user"}},
        ) as gateway,
    ):
        got = ""
        for user in ("ann", "bob"):
            got += " "
            session = await gateway.initialize()
            for method, params in (
                ("tools/call", {"name": "alpha__echo"}),
                ("tools/call", {"name": "alpha__echo"}),
                ("tools/call", {"name": "alpha__slow"}),
                ("prompts/get", {"name": "alpha__echo"}),
                ("ping", None),
                ("ping", None),
            ):
                answer = await gateway.rpc(method, params, mcp_session_id=session, x_user=user)
                got += "0" if is_limited(answer) else "1"
        assert got.strip() == let_through


async def test_each_principal_has_its_own_limit(start: StartGateway, server: ScriptedServer, tmp_path: Path) -> None:
    """Whoever is authenticated, without being told where to look: by how it is proven and by whom, not by session, key or
    token. Who is anonymous is one principal, too."""
    keys = tmp_path / "keys.yaml"
    keys.write_text(json.dumps({"alice": ["alice-" + "a" * 20, "other-" + "a" * 20], "bob": "bob-" + "b" * 20}))
    async with AuthorizationServer() as idp:
        issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}
        authentication = {"anonymous": True, "oauth": {"issuers": [issuer]}, "api_keys": {"file": str(keys)}}
        limit = {"match": {"method": "tools/call"}, "by": ["principal"], "requests": 1, "per": "hour"}
        let_through = {}
        async with start({"alpha": server.url}, rate_limits=[limit], authentication=authentication) as gateway:
            for who, headers in {
                "alice": {"x_api_key": "alice-" + "a" * 20},
                "alice once more": {"x_api_key": "alice-" + "a" * 20},
                "alice by her other key": {"x_api_key": "other-" + "a" * 20},
                "bob": {"x_api_key": "bob-" + "b" * 20},
                "alice by a token": {"authorization": f"Bearer {idp.token()}"},
                "alice by another token": {"authorization": f"Bearer {idp.token(jti='another')}"},
                "nobody": {},
                "somebody else, unnamed": {},
            }.items():
                opened = await gateway.rpc("initialize", INITIALIZE, **headers)
                session = opened.headers["mcp-session-id"]
                call = {"name": "alpha__echo", "arguments": {}}
                answer = await gateway.rpc("tools/call", call, mcp_session_id=session, **headers)
                let_through[who] = not is_limited(answer)
    assert [who for who, passed in let_through.items() if passed] == ["alice", "bob", "alice by a token", "nobody"]


async def test_methods(start: StartGateway, server: ScriptedServer) -> None:
    """All of them: ``initialize`` and lists, too."""
    async with start({"alpha": server.url}, rate_limits=[{"by": ["method"], "requests": 1, "per": "hour"}]) as gateway:
        session = await gateway.initialize()
        assert await calls(gateway, session, "alpha__echo", 2) == [True, False]
        for method, params in (("tools/list", None), ("prompts/get", {"name": "alpha__x"})):
            got = [await gateway.rpc(method, params, mcp_session_id=session) for _ in range(2)]
            assert [is_limited(answer) for answer in got] == [False, True]
        assert is_limited(await gateway.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}))


async def test_all_together(start: StartGateway, server: ScriptedServer) -> None:
    """A limit that names nothing counts every request."""
    async with start({"alpha": server.url}, rate_limits=[{"requests": 3, "per": "hour"}]) as gateway:
        session = await gateway.initialize()
        assert await calls(gateway, session, "alpha__echo", 1) == [True]
        assert (await gateway.rpc("ping", mcp_session_id=session)).result == {}
        notified = await gateway.send(b'{"jsonrpc":"2.0","method":"notifications/x"}', mcp_session_id=session)
        assert (notified.status, notified.headers["retry-after"]) == (429, "1200")
        assert "id" not in notified.json
        assert await calls(gateway, session, "alpha__echo", 1) == [False]


async def test_any_limit_refuses_and_time_gives_back(start: StartGateway, server: ScriptedServer) -> None:
    limits = [{"by": ["tool"], "requests": 1, "per": "second"}, {"by": ["session"], "requests": 3, "per": "hour"}]
    async with start({"alpha": server.url}, rate_limits=limits) as gateway:
        session = await gateway.initialize()
        assert (await calls(gateway, session, "alpha__echo", 2))[0]

        async def past_the_second() -> bool:
            answer = await gateway.call(session, "alpha__echo")
            if not is_limited(answer) or answer.headers["retry-after"] == "1200":
                return True
            assert answer.headers["retry-after"] == "1"
            return False

        await eventually(past_the_second, "the limit of a second is over")


async def test_native_status(start: StartGateway, server: ScriptedServer) -> None:
    limit = {"by": ["tool"], "requests": 1, "per": "minute"}
    async with start({"alpha": server.url}, rate_limits=[limit], errors={"status": "native"}) as gateway:
        session = await gateway.initialize()
        await gateway.call(session, "alpha__echo")
        answer = await gateway.call(session, "alpha__echo", id="n")
        assert (answer.status, answer.json["id"], answer.headers["retry-after"]) == (429, "n", "60")


async def test_what_the_service_is_asked_and_tells(start: StartGateway, server: ScriptedServer) -> None:
    """The protocol of envoyproxy/ratelimit: descriptors, numbers from our configuration or from its own, and its headers."""
    service = RateLimits("shop", {(("method", ""),): (2, "HOUR")}, clock=lambda: 7200.0 - 42)
    limits = [
        {"scope": "global", "by": ["tool"], "requests": 100, "per": "minute"},
        {"scope": "global", "by": ["method"]},
        {
            "scope": "global", "match": {"server": "alpha", "method": "tools/call"},
            "by": ["session"], "requests": 9, "per": "day",
        },
    ]  # fmt: skip
    async with (
        service.serving(),
        start(
            {"alpha": server.url},
            rate_limits=limits,
            rate_limit_service={"address": f"127.0.0.1:{service.port}", "domain": "shop", "timeout": "5s"},
        ) as gateway,
    ):
        session = await gateway.initialize()
        answer = await gateway.call(session, "alpha__echo")
        assert answer.headers["x-ratelimit-remaining"] == "1"
        assert answer.headers["x-ratelimit-reset"] == "42"
        entry = await gateway.logged(mcp_name="alpha__echo")
        short = entry["mcp.session.id"]
        assert service.asked[0] == [(("method", "initialize"),)]
        assert service.asked[1] == [
            (("server", "alpha"), ("tool", "echo")),
            (("method", "tools/call"),),
            (("match_server", "alpha"), ("match_method", "tools/call"), ("session", short)),
        ]
        await gateway.call(session, "alpha__echo")
        refused = await gateway.call(session, "alpha__echo")
        assert is_limited(refused)
        assert refused.headers["retry-after"] == "42"


@pytest.mark.parametrize("deny", [True, False])
async def test_a_service_that_is_down(start: StartGateway, server: ScriptedServer, deny: bool) -> None:
    address = {"address": f"127.0.0.1:{free_port()}", "timeout": "100ms", "failure_mode_deny": deny}
    limit = {"scope": "global", "match": {"method": "tools/call"}, "requests": 1, "per": "day"}
    async with start({"alpha": server.url}, rate_limits=[limit], rate_limit_service=address) as gateway:
        session = await gateway.initialize()
        answer = await gateway.call(session, "alpha__echo", id=3)
        assert answer.status == 200
        assert answer.json["id"] == 3
        if deny:
            assert answer.error["data"] == {"reason": "refused"}
            assert server.calls("tools/call") == []
        else:
            assert answer.result["content"]
