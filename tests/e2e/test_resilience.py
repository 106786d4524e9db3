"""Each resilience key of a server at work in a real Envoy: what clients get, what servers see, and what Envoy counts."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support import lasting_ports
from tests.support.gateway import TestGateway
from tests.support.h2_front import Http2Front
from tests.support.scripted import ScriptedServer, echo, hang, raw
from tests.support.tls import Authority
from tests.support.waiting import eventually


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: they read what Envoy counted and remembers."""
    return start_own


@asynccontextmanager
async def group(count: int = 3, *, stateless: bool = True) -> AsyncIterator[list[ScriptedServer]]:
    """Replicas of one server. Those with sessions know each other's."""
    known: set[str] = set()
    async with AsyncExitStack() as stack:
        servers = [ScriptedServer(name, stateless=stateless) for name in "abcdefgh"[:count]]
        for server in servers:
            server.sessions = known
            await stack.enter_async_context(server)
        yield servers


def section(servers: Sequence[ScriptedServer], **config: Any) -> dict[str, Any]:
    return {"endpoints": [f"127.0.0.1:{server.port}" for server in servers], **config}


def called(servers: Sequence[ScriptedServer]) -> list[int]:
    """How many calls each got."""
    return [len(server.calls("tools/call")) for server in servers]


async def stat(gateway: TestGateway, name: str) -> int:
    return await gateway.local.stat(f"cluster.mcp/s.{name}") or 0


async def until(gateway: TestGateway, name: str, value: int) -> None:
    await eventually(lambda: stat(gateway, name), f"{name} is {value}", until=lambda seen: seen == value)


async def config_of(gateway: TestGateway) -> dict[str, Any]:
    """The cluster's configuration as Envoy has it."""
    dump = json.loads(await gateway.local.admin("GET", "/config_dump?resource=static_clusters") or "{}")
    if not dump.get("configs"):
        dump = json.loads(await gateway.local.admin("GET", "/config_dump?resource=dynamic_active_clusters") or "{}")
    [found] = [c["cluster"] for c in dump["configs"] if c["cluster"]["name"] == "mcp/s"]
    assert isinstance(found, dict)
    return found


# -- Load balancing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["round_robin", "least_request", "random"])
async def test_replicas_share_the_load(start: StartGateway, policy: str) -> None:
    async with group() as servers, start({"s": section(servers, load_balancing=policy)}) as gateway:
        session = await gateway.initialize()
        for n in range(60):
            assert (await gateway.call(session, "s__echo", id=n)).result
        counts = called(servers)
        assert sum(counts) == 60
        # Of each of Envoy's threads by itself, so a round robin is not exact either.
        assert min(counts) >= (15 if policy == "round_robin" else 1)
        assert (await config_of(gateway)).get("lb_policy", "ROUND_ROBIN") == policy.upper()


async def test_ring_hash_goes_by_the_session(start: StartGateway) -> None:
    async with (
        group(stateless=False) as servers,
        start({"s": section(servers, load_balancing="ring_hash")}) as gateway,
    ):
        used = Counter[int]()
        for _ in range(12):
            session = await gateway.initialize()
            before = called(servers)
            for n in range(4):
                assert (await gateway.call(session, "s__echo", id=n)).result
            got = [now - then for now, then in zip(called(servers), before, strict=True)]
            assert sorted(got) == [0, 0, 4]
            used[got.index(4)] += 1
        assert len(used) > 1
        assert len([server for server in servers if server.calls("initialize")]) > 1


async def test_dns_names_are_looked_up_again(start: StartGateway) -> None:
    async with group(1) as [server]:
        dns = {"refresh_rate": "100ms", "failure_refresh_rate": "1s", "lookup_family": "v4_only"}
        async with start({"s": {"url": f"http://s.localhost:{server.port}/mcp", "dns": dns}}) as gateway:
            session = await gateway.initialize()
            assert (await gateway.call(session, "s__echo")).result
            await eventually(lambda: stat(gateway, "update_success"), "three lookups", until=lambda count: count >= 3)
            assert (await gateway.call(session, "s__echo")).result


# -- Health ---------------------------------------------------------------------------------------------------------------

FAST = {"interval": "100ms", "timeout": "30s", "unhealthy_threshold": 1}
"""A replica that is gone refuses connections at once; one that is there has time to answer."""


@pytest.mark.parametrize("check", [FAST, {**FAST, "path": "/health", "expected_statuses": [200, "204-299"]}])
async def test_an_unwell_replica_gets_no_requests(start: StartGateway, check: dict[str, Any]) -> None:
    """Nor does the repair listener, whatever share of the replicas is well."""
    async with group() as servers:
        for server in servers:
            server.get = fixed_status(200)
        async with start({"s": section(servers, health_check=check)}) as gateway:
            session = await gateway.initialize()
            for gone in servers[:2]:
                if "path" in check:
                    gone.get = fixed_status(503)
                else:
                    await gone.stop()
            # The repair listener is one of the well: it is not checked.
            await until(gateway, "membership_healthy", 2)
            before = called(servers)
            for n in range(30):
                assert (await gateway.call(session, "s__echo", id=n)).result
            assert [now - then for now, then in zip(called(servers), before, strict=True)] == [0, 0, 30]
            if "path" in check:
                servers[0].get = fixed_status(204)
            else:
                await servers[0].restart()
            await until(gateway, "membership_healthy", 3)
            for n in range(30):
                assert (await gateway.call(session, "s__echo", id=n)).result
            assert called(servers)[0] > before[0]


def fixed_status(status: int) -> Any:
    async def get(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    return get


@pytest.mark.parametrize("stateless", [True, False])
@pytest.mark.parametrize("retries", [{}, {"retries": {}}, {"sticky_sessions": True}])
async def test_all_replicas_are_unwell(start: StartGateway, stateless: bool, retries: dict[str, Any]) -> None:
    """What gets to the repair listener as a first attempt is answered there: no loop, no new session, no wait."""
    async with group(2, stateless=stateless) as servers:
        async with start({"s": section(servers, health_check=FAST, **retries)}) as gateway:
            session = await gateway.initialize()
            for server in servers:
                await server.stop()
            await until(gateway, "membership_healthy", 1)
            before = await stat(gateway, "upstream_rq_total")
            refused = await gateway.call(session, "s__echo", id=5)
            assert (refused.status, refused.error["code"], refused.json["id"]) == (200, -32603, 5)
            assert "'s' is down" in refused.error["message"]
            assert await stat(gateway, "upstream_rq_total") == before + 1
            listed = await gateway.rpc("tools/list", mcp_session_id=session)
            assert (listed.status, listed.error["code"]) == (200, -32603)
            assert "is unreachable" in listed.error["message"]
            assert await stat(gateway, "upstream_rq_total") <= before + 3
            for server in servers:
                await server.__aenter__()
            await until(gateway, "membership_healthy", 3)
            assert (await gateway.call(session, "s__echo")).result


@pytest.mark.parametrize("host", ["127.0.0.1", "s.localhost"])
async def test_health_checks_and_repairs_with_tls(start: StartGateway, tmp_path: Path, host: str) -> None:
    """The checks make the TLS handshake; the repair listener stays plain, unchecked and reachable."""
    authority = Authority(tmp_path)
    tls = {
        "ca": str(tmp_path / "ca.pem"), "client_certificate": str(tmp_path / "client.pem"),
        "client_key": str(tmp_path / "client.key"), "sni": "127.0.0.1",
    }  # fmt: skip
    async with (
        ScriptedServer("s") as behind,
        Http2Front(behind.url, asking(authority)) as front,
        start({
            "s": {"endpoints": [f"{host}:{front.port}"], "tls": tls, "http2": True, "health_check": FAST}
        }) as gateway,
    ):  # fmt: skip
        session = await gateway.initialize()
        await until(gateway, "membership_healthy", 2)
        behind.sessions.clear()
        assert (await gateway.call(session, "s__echo")).result
        assert len(behind.calls("initialize")) == 2
        assert await stat(gateway, "health_check.attempt") > 0
        assert await stat(gateway, "health_check.failure") == 0
        assert set(front.alpn) == {"h2"}


def asking(authority: Authority) -> ssl.SSLContext:
    """Speaks h2, and asks for the client's certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(authority.certificate("server"), authority.key("server"))
    context.set_alpn_protocols(["h2"])
    return context


OUTLIERS = {"interval": "100ms", "base_ejection_time": "60s"}


async def test_a_replica_that_fails_is_ejected(start: StartGateway) -> None:
    async with group() as servers:
        servers[0].on["tools/call"] = raw(500, "text/html", "<p>")
        outliers = {**OUTLIERS, "consecutive_5xx": 2}
        async with start({"s": section(servers, outlier_detection=outliers)}) as gateway:
            session = await gateway.initialize()
            failed = 0

            async def ejected() -> int:
                nonlocal failed
                failed += "error" in (await gateway.call(session, "s__echo")).json
                return await stat(gateway, "outlier_detection.ejections_active")

            await eventually(ejected, "it is ejected")
            assert failed == len(servers[0].calls("tools/call")) >= 2
            for n in range(30):
                assert (await gateway.call(session, "s__echo", id=n)).result
            assert failed == len(servers[0].calls("tools/call"))


async def test_a_single_server_that_is_ejected_is_down(start: StartGateway) -> None:
    """Without connections there is nothing to wait for, and the repair listener is no way around."""
    async with group(1) as [server]:
        outliers = {"interval": "100ms", "base_ejection_time": "1s", "max_ejection_time": "1s",
                    "consecutive_local_origin_failure": 1}  # fmt: skip
        async with start({"s": section([server], outlier_detection=outliers)}) as gateway:
            session = await gateway.initialize()
            await server.stop()
            assert "UpstreamConnectionFailure" in (await gateway.call(session, "s__echo")).error["message"]

            async def answered() -> tuple[int, str]:
                attempts = await stat(gateway, "upstream_cx_connect_fail")
                message: str = (await gateway.call(session, "s__echo")).error["message"]
                return await stat(gateway, "upstream_cx_connect_fail") - attempts, message

            # Whoever comes after that second is connected, and ejects it again.
            await eventually(answered, "it is down", until=lambda seen: seen[0] == 0 and "'s' is down" in seen[1])
            await server.__aenter__()
            await until(gateway, "outlier_detection.ejections_active", 0)
            assert (await gateway.call(session, "s__echo")).result


async def test_the_repair_listener_is_never_ejected(start: StartGateway, alpha: ScriptedServer) -> None:
    """Neither for what servers answer to repaired calls, nor for those that could not be repaired."""
    outliers = {**OUTLIERS, "consecutive_5xx": 3, "consecutive_gateway_failure": 3}
    url = {"url": alpha.url, "outlier_detection": outliers, "retries": {}}
    async with start({"s": url}) as gateway:
        sessions = [await gateway.initialize() for _ in range(8)]

        async def fails(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
            lost = request.headers["mcp-session-id"] not in alpha.sessions
            return web.Response(status=404 if lost else 500, text="<p>", content_type="text/html")

        alpha.on["tools/call"] = fails
        for session in sessions:
            # What lost its session answers 404 first, which breaks the row of 5xx at the replica, and then 500.
            alpha.sessions.clear()
            got = await gateway.call(session, "s__echo")
            assert "answered HTTP 5xx" in got.error["message"]
        assert await stat(gateway, "outlier_detection.ejections_active") == 0
        del alpha.on["tools/call"]
        alpha.sessions.clear()
        assert (await gateway.call(sessions[0], "s__echo")).result


# -- Limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "counter"),
    [
        ({"max_requests": 1}, "upstream_rq_active_overflow"),
        ({"max_connections": 1, "max_pending_requests": 1}, "upstream_rq_pending_overflow"),
    ],
)
async def test_circuit_breakers(
    start: StartGateway, alpha: ScriptedServer, limits: dict[str, int], counter: str
) -> None:
    """What is above them fails at once, with an error that says why; what is below does not notice."""
    release = asyncio.Event()

    async def slow(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        await release.wait()
        return echo(message)

    alpha.on["tools/call"] = slow
    async with start({"s": {"url": alpha.url, "circuit_breakers": limits}}) as gateway:
        session = await gateway.initialize()
        calls = {asyncio.create_task(gateway.call(session, "s__echo", id=n)): n for n in range(12)}
        # Each of Envoy's threads (at most 4) may have a connection, whatever the limit; and one request waits.
        refused = await eventually(
            lambda: [call for call in calls if call.done()], "7 calls are refused", until=lambda done: len(done) >= 7
        )
        for call in refused:
            got = call.result()
            assert (got.status, got.error["code"], got.json["id"]) == (200, -32603, calls[call])
            assert "UpstreamOverflow" in got.error["message"]
        assert await stat(gateway, counter) >= len(refused)
        release.set()
        answers = await asyncio.gather(*calls)
        served = sum("result" in got.json for got in answers)
        assert served == len(alpha.calls("tools/call"))
        assert 1 <= served <= 12 - len(refused)


async def test_too_many_retries_at_a_time(start: StartGateway, alpha: ScriptedServer) -> None:
    """The limit is on repairs as well."""
    alpha.on["initialize"] = alpha_initialize = Held(alpha)
    async with start({"s": {"url": alpha.url, "circuit_breakers": {"max_retries": 1}}}) as gateway:
        alpha_initialize.release.set()
        session, other = await gateway.initialize(), await gateway.initialize()
        alpha.sessions.clear()
        alpha_initialize.release.clear()
        held = asyncio.create_task(gateway.call(session, "s__echo", id=1))
        await until(gateway, "upstream_rq_retry", 1)
        assert "answered HTTP 404" in (await gateway.call(other, "s__echo", id=2)).error["message"]
        assert await stat(gateway, "upstream_rq_retry_overflow") == 1
        alpha_initialize.release.set()
        assert (await held).result


class Held:
    """Answers ``initialize`` once it is released."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.release = asyncio.Event()

    async def __call__(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        await self.release.wait()
        return self.server._initialize(message)


# -- Retries --------------------------------------------------------------------------------------------------------------


async def test_calls_are_retried_where_no_connection_was_made(start: StartGateway) -> None:
    """At another replica, in the same session, and each call reaches a server once."""
    async with group(2, stateless=False) as servers:
        dead = f"127.0.0.1:{lasting_ports.take('dead')}"
        config = section(servers)
        config["endpoints"] = [dead, *config["endpoints"]]
        async with start({"s": {**config, "retries": {}}}) as gateway:
            session = await gateway.initialize()
            opened = sum(len(server.calls("initialize")) for server in servers)
            n = 0
            # Lists have their turn at the replicas too, and may be all that meets the dead one while there are any.
            while n < 12 or (n < 200 and not any(server.calls("ping") for server in servers)):
                got = await gateway.call(session, "s__echo", {"n": n}, id=n)
                assert (got.json["id"], f'"n": {n}' in got.result["content"][0]["text"]) == (n, True)
                if n < 12:
                    assert "_meta" not in (await gateway.rpc("tools/list", mcp_session_id=session)).result
                n += 1
            assert sum(called(servers)) == n
            assert await stat(gateway, "upstream_rq_retry") > 0
            # The session was asked about, found good, and kept.
            assert any(server.calls("ping") for server in servers)
            assert sum(len(server.calls("initialize")) for server in servers) == opened


async def test_without_retries_they_fail(start: StartGateway) -> None:
    async with group(1) as [server]:
        config = section([server])
        config["endpoints"] = [f"127.0.0.1:{lasting_ports.take('dead')}", *config["endpoints"]]
        async with start({"s": {**config, "load_balancing": "random"}}) as gateway:
            opened = await eventually(
                lambda: gateway.rpc("initialize", HELLO), "a session", until=lambda got: "mcp-session-id" in got.headers
            )
            session = opened.headers["mcp-session-id"]
            got = [await gateway.call(session, "s__echo", id=n) for n in range(20)]
            assert any("UpstreamConnectionFailure" in one.error["message"] for one in got if "error" in one.json)
            assert await stat(gateway, "upstream_rq_retry") == 0


HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}


async def test_stateless_servers_are_retried_too(start: StartGateway) -> None:
    async with group(1) as [server]:
        config = section([server])
        config["endpoints"] = [f"127.0.0.1:{lasting_ports.take('dead')}", *config["endpoints"]]
        async with start({"s": {**config, "retries": {}}}) as gateway:
            session = await gateway.initialize()
            for n in range(10):
                assert (await gateway.call(session, "s__echo", id=n)).result
            assert called([server]) == [10]
            assert await stat(gateway, "upstream_rq_retry") > 0


async def test_a_server_that_refuses_connections_is_down(start: StartGateway, alpha: ScriptedServer) -> None:
    """A bounded number of attempts, and one answer."""
    async with start({"s": {"url": alpha.url, "retries": {"num_retries": 2}}}) as gateway:
        session = await gateway.initialize()
        await alpha.stop()
        got = await gateway.call(session, "s__echo", id=3)
        assert (got.status, got.json["id"]) == (200, 3)
        assert "'s' is unreachable" in got.error["message"]
        # The call; the question whether the session is good, asked three times.
        assert await stat(gateway, "upstream_cx_connect_fail") == 4
        await alpha.__aenter__()
        assert (await gateway.call(session, "s__echo")).result
        assert len(alpha.calls("initialize")) == 1


async def test_lists_and_discovery_are_retried_on_503_and_calls_are_not(
    start: StartGateway, alpha: ScriptedServer
) -> None:
    left = {"initialize": 1, "tools/list": 2, "tools/call": 1}
    normal = {"initialize": alpha._initialize, "tools/list": alpha._tools, "tools/call": echo}

    async def unavailable(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        method = message["method"]
        if left[method]:
            left[method] -= 1
            return web.Response(status=503)
        return normal[method](message)

    alpha.on = dict.fromkeys(left, unavailable)
    async with start({"s": {"url": alpha.url, "retries": {"num_retries": 2, "base_interval": "1ms"}}}) as gateway:
        session = await gateway.initialize()
        listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
        assert ([tool["name"] for tool in listed["tools"]], "_meta" in listed) == (["s__echo"], False)
        assert "answered HTTP 503" in (await gateway.call(session, "s__echo")).error["message"]
        assert {name: len(alpha.calls(name)) for name in left} == {"initialize": 2, "tools/list": 3, "tools/call": 1}


async def test_a_call_that_broke_is_not_repeated(start: StartGateway, alpha: ScriptedServer) -> None:
    """It was read, so it may have had its effect."""

    async def breaks(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        raise asyncio.CancelledError

    alpha.on["tools/call"] = breaks
    async with start({"s": {"url": alpha.url, "retries": {}}}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "s__echo")).error["code"] == -32603
        assert len(alpha.calls("tools/call")) == 1


# -- Connections ----------------------------------------------------------------------------------------------------------


async def test_http2_with_prior_knowledge(start: StartGateway, alpha: ScriptedServer) -> None:
    """One connection for all; PINGs; a refused stream is retried; lost sessions are repaired."""
    async with Http2Front(alpha.url) as front:
        config = {
            "url": f"http://127.0.0.1:{front.port}/mcp", "http2": True, "retries": {}, "idle_timeout": "1h",
            "keepalive": {"http2_interval": "100ms"},
        }  # fmt: skip
        async with start({"s": config}) as gateway:
            session = await gateway.initialize()
            await asyncio.gather(*(gateway.call(session, "s__echo", id=n) for n in range(20)))
            assert await stat(gateway, "upstream_cx_http2_total") > 0
            assert await stat(gateway, "upstream_cx_http1_total") == 0
            await eventually(lambda: front.pings, "two pings of HTTP/2", until=lambda count: count >= 2)
            front.refuse = 1
            assert (await gateway.call(session, "s__echo")).result
            assert len(alpha.calls("tools/call")) == 21
            assert len(alpha.calls("initialize")) == 1
            alpha.sessions.clear()
            assert (await gateway.call(session, "s__echo")).result
            assert len(alpha.calls("initialize")) == 2


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss, of iproute2")
async def test_tcp_keepalive(start: StartGateway, alpha: ScriptedServer) -> None:
    config = {"url": alpha.url, "idle_timeout": "1h", "keepalive": {"time": "2h", "interval": "7s", "probes": 4}}
    async with start({"s": config}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "s__echo")).result
        done = await asyncio.to_thread(
            subprocess.run, ["ss", "-tnoH", f"dport = :{alpha.port}"], capture_output=True, text=True, check=True
        )
        assert re.search(r"timer:\(keepalive,1[12]\dmin", done.stdout), done.stdout


async def test_connections_are_kept_as_long_as_configured(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"s": {"url": alpha.url, "idle_timeout": "50ms"}}) as gateway:
        await gateway.initialize()
        await until(gateway, "upstream_cx_active", 0)
        assert await stat(gateway, "upstream_cx_idle_timeout") > 0


async def test_connections_are_used_as_often_as_configured(start: StartGateway, alpha: ScriptedServer) -> None:
    config = {"url": alpha.url, "idle_timeout": "1h", "max_requests_per_connection": 2}
    async with start({"s": config}) as gateway:
        session = await gateway.initialize()
        for n in range(6):
            assert (await gateway.call(session, "s__echo", id=n)).result
        assert await stat(gateway, "upstream_cx_max_requests") >= 3


async def test_a_stream_outlives_every_timeout_of_a_call(start: StartGateway, alpha: ScriptedServer) -> None:
    """``timeout`` is for silence: an answer that goes on may take longer."""

    async def slowly(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(50):
            await asyncio.sleep(0.1)
            await response.write(b": still here\n\n")
        done = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}
        await response.write(b"data: " + json.dumps(done).encode() + b"\n\n")
        return response

    alpha.on["tools/call"] = slowly
    async with start({"s": {"url": alpha.url, "timeout": "2s"}}) as gateway:
        session = await gateway.initialize()
        got = await gateway.call(session, "s__echo", id=9)
        assert b'"id": 9' in got.body or b'"id":9' in got.body
        alpha.on["tools/call"] = hang
        assert "StreamIdleTimeout" in (await gateway.call(session, "s__echo")).error["message"]
