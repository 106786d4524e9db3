"""MCP on an Envoy that serves other things: ``envoy attach`` with envoy/existing.yaml, real Envoy, real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import web
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestParams, ElicitResult, TextContent

from tests.support import own_envoy
from tests.support.gateway import ACCEPT, Answer
from tests.support.own_envoy import Browser, Place, Website
from tests.support.processes import ROOT, free_port, http_server, sdk_server
from tests.support.scripted import ScriptedServer, tool
from tests.support.streaming import StreamingServer
from tests.support.waiting import PATIENCE

EXISTING = (ROOT / "envoy" / "existing.yaml").read_text()
HTTP, HTTPS, ADMIN, WEB = 8080, 8443, 9901, 8000
API = "api.example.com"
NOBODY = {"alpha": {"url": "http://127.0.0.1:9/mcp"}}
"""For tests that call no server."""


@dataclass
class Shop:
    """The existing Envoy with MCP attached, and what is around it."""

    place: Place
    site: Website
    client: Browser
    """Of the virtual host that MCP was attached to."""
    worker: Any

    async def streams(self) -> int:
        """How many requests have been to a worker by the clients' listener."""
        found = await own_envoy.stats(self.place.port(ADMIN), "ext_proc.streams_started")
        return found["http.https.ext_proc.streams_started"]


async def attached(place: Place, config: Mapping[str, Any], text: str = EXISTING) -> str:
    """What ``envoy attach`` makes of a configuration. Where workers listen is the default, as for ``serve``."""
    file = place.folder / "gateway.yaml"
    file.write_text(json.dumps(config))
    arguments = ["--config", str(file), "-", "--listener", "https", "--virtual-host", "api"]
    out, _ = await own_envoy.printed(place, "envoy", "attach", *arguments, stdin=text)
    return out


@asynccontextmanager
async def shop(folder: Path, servers: Mapping[str, Any], text: str = EXISTING, **config: Any) -> AsyncIterator[Shop]:
    """Envoy, a worker, the website."""
    document = {"listen": {"address": "0.0.0.0"}, "servers": servers, "log": {"access": ""}, **config}
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(own_envoy.place(folder, HTTP, HTTPS, ADMIN, WEB))
        moved = place.moved(await attached(place, document, text))
        site = await stack.enter_async_context(own_envoy.website(place.port(WEB)))
        process = await stack.enter_async_context(own_envoy.worker(place, json.dumps(document)))
        await stack.enter_async_context(own_envoy.envoy(place, moved, place.port(HTTPS)))
        client = own_envoy.browser(place.port(HTTPS), tls=own_envoy.trusting(place), host=API)
        yield Shop(place, site, await stack.enter_async_context(client), process)


async def test_answers_are_read_where_they_have_to_be(tmp_path: Path) -> None:
    """JSON by metadata alone, which is written behind the filter's place; event streams; and no others."""
    link = {"content": [{"type": "resource_link", "uri": "file:///a", "name": "a"}]}

    async def in_json(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": link})

    async def in_events(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        body = b"data: " + json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": link}).encode() + b"\n\n"
        return web.Response(body=body, content_type="text/event-stream")

    capabilities: dict[str, Any] = {"tools": {}, "resources": {}}
    async with ScriptedServer("a", capabilities=capabilities) as alpha, ScriptedServer("b") as beta:
        async with shop(tmp_path, {"alpha": {"url": alpha.url}, "beta": {"url": beta.url}}) as running:
            await running.client.initialize()
            for answers in (in_json, in_events):
                alpha.on["tools/call"] = answers
                answer = await running.client.call("alpha__x")
                assert b'"alpha+file:///a"' in answer.body
        async with shop(tmp_path, {"beta": {"url": beta.url}}) as running:
            await running.client.initialize()
            before = await running.streams()
            assert (await running.client.call("beta__echo")).result
            assert await running.streams() == before + 2  # in front of policies, and behind them


# -- What was there -------------------------------------------------------------------------------------------------------

_PAGE = {"accept_encoding": "gzip"}
_CORS = {"origin": "https://partner.example.com", "access_control_request_method": "POST"}

REQUESTS: list[tuple[str, str, str, dict[str, str]]] = [
    ("www.example.com", "GET", "/", {}),
    ("www.example.com:443", "GET", "/index.html", _PAGE),
    ("www.example.com", "GET", "/a?b=c", {"x_mcp_server": "alpha", "mcp_method": "tools/call", "mcp_session_id": "s"}),
    ("www.example.com", "OPTIONS", "/", _CORS),
    ("www.example.com", "GET", "/mcp", {}),
    ("www.example.com", "POST", "/mcp", {"content_type": "application/json"}),
    ("www.example.com", "GET", "/old/page", {}),
    ("www.example.com", "GET", "/x/../y//z", {}),
    ("www.example.com", "GET", "/a%2Fb", {}),
    ("www.example.com", "GET", "/faulty", {"x_envoy_fault_abort_request": "418"}),
    (API, "GET", "/", {"x_forwarded_for": "1.2.3.4"}),
    (API, "POST", "/mcps", {"content_type": "application/json"}),
    (API, "POST", "/mcp/", {"content_type": "application/json"}),
    (API, "POST", "/mcp/deeper", {"content_type": "application/json"}),
    (API, "GET", "/admin/users", {}),
    (API, "GET", "/broken", {}),
    (API, "GET", "/limited", {}),
    (API, "GET", "/limited", {}),
    (API, "GET", "/limited", {}),
    (API, "GET", "/partners/1", {}),
    (API, "GET", "/partners/1", {"x_api_key": "partner-key"}),
    (API, "GET", "/partners/1", {"x_api_key": "wrong"}),
    ("status.example.com", "GET", "/anything", {}),
    ("status.example.com", "POST", "/mcp", {"content_type": "application/json"}),
    ("nobody.example.com", "GET", "/mcp", {}),
]


async def _answers(client: Browser, port: int) -> list[tuple[int, dict[str, str], bytes]]:
    def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in answer.headers.items() if name not in own_envoy.VOLATILE}
        return answer.status, headers, answer.body.replace(str(port).encode(), b"PORT")

    return [
        told(
            await client.send(path, method=method, host=host, body=b'{"a": 1}' if method == "POST" else b"", **headers)
        )
        for host, method, path, headers in REQUESTS
    ]


async def test_everything_else_is_served_as_before(tmp_path: Path) -> None:
    """Bodies, headers, redirects, refusals, pages in HTML: the same answers, and the same requests at the service."""
    async with shop(tmp_path, NOBODY) as after:
        place = after.place
        before = Place(place.folder, place.sockets, {WEB: place.port(WEB)})
        for known in (HTTP, HTTPS, ADMIN):
            before.port(known)
        async with (
            own_envoy.envoy(before, before.moved(EXISTING), before.port(HTTPS), "before"),
            own_envoy.browser(before.port(HTTPS), tls=own_envoy.trusting(place), host=API) as old,
        ):
            expected = await _answers(old, before.port(HTTPS))
            paths = list(after.site.paths)
            after.site.paths.clear()
            found = await _answers(after.client, place.port(HTTPS))
        for request, was, now in zip(REQUESTS, expected, found, strict=True):
            assert now == was, request
        assert after.site.paths == paths
        statuses = [status for status, _, _ in expected]
        # The requests do what their names say, so that there is something that could have changed.
        assert statuses == [200, 200, 200, 200, 200, 200, 308, 200, 400, 418, 200, 200, 200, 200, 403, 503, 200, 200, 429, 401,
                            200, 401, 200, 200, 404]  # fmt: skip
        assert expected[1][1]["content-encoding"] == "gzip"
        assert expected[3][1]["access-control-allow-origin"] == "https://partner.example.com"
        assert b"nothing to do with the protocol" in expected[4][2]
        assert b"We are back soon" in expected[15][2]
        assert json.loads(expected[14][2])["problem"].startswith("RBAC")
        assert await after.streams() == 0


async def test_the_other_listener_and_websockets(tmp_path: Path) -> None:
    async with shop(tmp_path, NOBODY) as running:
        async with own_envoy.browser(running.place.port(HTTP), host=API) as plain:
            answer = await plain.send("/mcp?a=b")
            assert (answer.status, answer.headers["location"]) == (
                301,
                f"https://{API}:{running.place.port(HTTPS)}/mcp?a=b",
            )
            assert (await plain.send("/healthz")).body == b"ok\n"
        async with own_envoy.websocket(running.place, HTTPS, "/live", "www.example.com") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "echo hello"
        assert await running.streams() == 0


# -- MCP ------------------------------------------------------------------------------------------------------------------


async def test_an_sdk_client_over_tls(tmp_path: Path) -> None:
    """Two SDK servers behind one endpoint of the existing listener: lists, calls, progress, the policy that was there, and
    consent behind it."""
    questions: list[str] = []

    async def accept(context: Any, params: ElicitRequestParams) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept")

    ports = {"one": free_port(), "two": free_port()}
    async with AsyncExitStack() as stack:
        for name, port in ports.items():
            log = tmp_path / f"{name}.log"
            await stack.enter_async_context(http_server(sdk_server(name, port), port, log=log))
        servers = {name: {"url": f"http://127.0.0.1:{port}/mcp"} for name, port in ports.items()}
        running = await stack.enter_async_context(shop(tmp_path, servers, vetting=[{"tools": ["count", "delete"]}]))
        url = f"https://127.0.0.1:{running.place.port(HTTPS)}/mcp"
        http = await stack.enter_async_context(
            httpx2.AsyncClient(verify=own_envoy.trusting(running.place), headers={"host": API}, timeout=30)
        )
        client = await stack.enter_async_context(
            Client(streamable_http_client(url, http_client=http), elicitation_callback=accept)
        )
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"one__add", "two__add"} <= set(names)
        for name in ports:
            [block] = (await client.call_tool(f"{name}__add", {"a": 1, "b": 2})).content
            assert isinstance(block, TextContent)
            assert block.text == f"{name}: 3"
        steps: list[float] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            steps.append(progress)

        await client.call_tool("two__count", {"to": 3}, progress_callback=progress)
        assert steps == [1, 2, 3]
        with pytest.raises(Exception, match="policy"):
            await client.call_tool("one__delete", {})
        [question] = questions
        assert question.endswith('Server: two\nTool: "count"\nArguments:\n  "to": 3')
        # The website is where it was.
        assert (await running.client.send("/")).status == 200


async def test_the_stream_of_a_get(tmp_path: Path) -> None:
    """What a server says by itself arrives, though the listener's own filters are between."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(StreamingServer("alpha"))
        running = await stack.enter_async_context(shop(tmp_path, {"alpha": {"url": server.url}}))
        await running.client.initialize()
        async with running.client.stream() as lines:
            channel = await server.opened()
            await channel.tell("notifications/tools/list_changed")
            async with asyncio.timeout(PATIENCE):
                while "list_changed" not in await anext(lines):
                    pass


@pytest.mark.parametrize("host", ["127.0.0.1", "alpha.localhost"])
async def test_a_lost_session_is_repaired(tmp_path: Path, alpha: ScriptedServer, host: str) -> None:
    """Without telling other services how often Envoy tried: the virtual host stays as it was."""
    async with shop(tmp_path, {"alpha": {"url": f"http://{host}:{alpha.port}/mcp"}}) as running:
        await running.client.initialize()
        assert "result" in (await running.client.call("alpha__echo")).json
        await alpha.restart()
        assert "result" in (await running.client.call("alpha__echo")).json
        assert [r.message["method"] for r in alpha.received[-4:]][:2] == ["tools/call", "initialize"]
        told = (await running.client.send("/")).json["headers"]
        assert "x-envoy-attempt-count" not in told
        found = await own_envoy.stats(running.place.port(ADMIN), "mcp_repair.ext_proc.streams_started")
        assert found["http.mcp_repair.ext_proc.streams_started"] == 1


async def test_a_server_that_is_down_is_no_lost_session(tmp_path: Path, alpha: ScriptedServer) -> None:
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}) as running:
        await running.client.initialize()
        await alpha.stop()
        answer = await running.client.call("alpha__echo")
        assert (answer.status, answer.json["id"]) == (200, 1)
        assert "server 'alpha' failed" in answer.error["message"]


async def test_batches_meet_the_listeners_policies(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Through a copy of the listener's filters: the host, its demand for TLS, and its RBAC among them."""
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}) as running:
        await running.client.initialize("2025-03-26")
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": {}}}
            for number, name in enumerate(["alpha__echo", "alpha__delete_all", "alpha__echo"])
        ]
        answer = await running.client.post(batch)
        assert answer.status == 200, answer.body
        by_id = {message["id"]: message for message in json.loads(answer.body)}
        assert "result" in by_id[0]
        assert "result" in by_id[2]
        assert by_id[1]["error"]["data"]["reason"] == "denied"
        assert len(alpha.calls("tools/call")) == 2


async def test_policies_that_were_there_judge_everything(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Not only calls: what the gateway answers by itself, too, and by what the client sent."""
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}) as running:
        client = running.client
        await client.initialize()
        received = len(alpha.received)
        assert denied(await client.rpc("tools/list", x_banned="1"))
        assert denied(await client.rpc("ping", x_banned="1"))
        assert denied(await client.rpc("initialize", {"protocolVersion": "2025-11-25"}, x_banned="1"))
        stream = await client.send(
            "/mcp", accept="text/event-stream", mcp_session_id=client.session or "", x_banned="1"
        )
        assert (stream.status, stream.headers["content-type"]) == (403, "application/json")
        gone = await client.send("/mcp", method="DELETE", mcp_session_id=client.session or "", x_banned="1")
        assert gone.status == 403
        assert len(alpha.received) == received
        assert "result" in (await client.rpc("tools/list")).json


async def test_calls_only_by_configuration(tmp_path: Path, alpha: ScriptedServer) -> None:
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}, envoy={"policies": "calls"}) as running:
        await running.client.initialize()
        assert "result" in (await running.client.rpc("tools/list", x_banned="1")).json
        assert denied(await running.client.call("alpha__delete"))


# -- Pages in a browser ----------------------------------------------------------------------------------------------------

APP, PARTNER, BOTH = "https://app.example.com", "https://partner.example.com", "https://both.example.com"
THEIR_PAGES = EXISTING.replace(
    "            - name: api\n",
    f"""\
            - name: api
              typed_per_filter_config:
                envoy.filters.http.cors:
                  "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
                  allow_origin_string_match: [{{exact: "{PARTNER}"}}, {{exact: "{BOTH}"}}]
                  allow_methods: GET
                  expose_headers: x-web
                  allow_credentials: true
""",
)
"""The listener's own cors filter has a policy for the virtual host."""


def _cors(answer: Answer) -> dict[str, str]:
    names = ("origin", "methods", "credentials")
    return {name: answer.headers[f"access-control-allow-{name}"] for name in names
            if f"access-control-allow-{name}" in answer.headers}  # fmt: skip


async def test_pages_at_the_endpoint_and_elsewhere(tmp_path: Path, alpha: ScriptedServer) -> None:
    """``origins`` decides at the endpoint, the listener's own filter for all else."""
    servers = {"alpha": {"url": alpha.url}}
    async with shop(tmp_path, servers, THEIR_PAGES, origins=[APP, BOTH]) as running:
        client = running.client

        async def preflight(path: str, origin: str) -> tuple[int, dict[str, str]]:
            asked: dict[str, Any] = {"origin": origin, "access_control_request_method": "POST"}
            answer = await client.send(path, method="OPTIONS", **asked)
            return answer.status, _cors(answer)

        methods = {"methods": "GET, POST, DELETE"}
        assert await preflight("/mcp", APP) == (200, {"origin": APP, **methods})
        assert await preflight("/mcp", PARTNER) == (200, methods)
        assert await preflight("/", PARTNER) == (200, {"origin": PARTNER, "methods": "GET", "credentials": "true"})
        assert await preflight("/", APP) == (200, {})
        assert running.site.paths == ["/"], "the one of a page that the listener does not know"
        assert await running.streams() == 0

        await client.initialize(origin=APP)
        called = await client.call("alpha__echo", origin=APP)
        assert _cors(called) == {"origin": APP}
        both = await client.call("alpha__echo", origin=BOTH)
        assert _cors(both) == {"origin": BOTH, "credentials": "true"}
        assert both.headers["access-control-expose-headers"].startswith("mcp-session-id")
        denied_to_app = await client.call("alpha__delete", origin=APP)
        assert denied(denied_to_app)
        assert _cors(denied_to_app) == {"origin": APP}
        assert (await client.rpc("ping", origin=PARTNER)).status == 403


# -- What goes wrong ------------------------------------------------------------------------------------------------------


async def test_errors_are_json_rpc_at_the_endpoint_only(tmp_path: Path, alpha: ScriptedServer) -> None:
    """The listener's own pages and formats of errors stay for all else, and what the gateway answers is not wrapped."""
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}, limits={"request_bytes": "64KiB"}) as running:
        client = running.client
        await client.initialize()
        unknown = await client.call("nobody__has_this")
        assert "Unknown tool" in unknown.error["message"]
        large = await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": "a" * 70_000}})
        assert (large.status, large.headers["content-type"]) == (413, "application/json")
        assert "larger" in large.error["message"]
        chunked = await client.send(
            "/mcp", method="POST", body=_pieces(70_000), content_type="application/json", accept=ACCEPT
        )
        assert (chunked.status, chunked.headers["content-type"]) == (413, "application/json")
        assert "65536" in chunked.error["message"]
        refused = await client.call("alpha__delete_it")
        assert denied(refused)
        assert refused.json["id"] == 1
        faulty = await client.call("alpha__echo", x_envoy_fault_abort_request="418")
        assert (faulty.status, faulty.headers["content-type"]) == (418, "application/json")
        assert "FaultInjected" in faulty.error["message"]
        running.worker.terminate()
        await running.worker.wait()
        nobody = await client.call("alpha__echo")
        assert (nobody.status, nobody.headers["content-type"]) == (503, "application/json")
        assert "not ready" in nobody.error["message"]
        # All else.
        assert (await client.send("/broken")).body == b"<h1>We are back soon</h1>\n"
        assert json.loads((await client.send("/admin")).body)["status"] == 403
        big = await client.send("/upload", method="POST", body=b"a" * 1_000_000)
        assert (big.status, len(big.json["body"])) == (200, 1_000_000)


def denied(answer: Answer) -> bool:
    """Whether the listener's RBAC refused a call."""
    return answer.status == 200 and "result" not in answer.json and answer.error["data"]["reason"] == "denied"


async def _pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 10_000):
        yield b" " * 10_000


# -- Spoofing -------------------------------------------------------------------------------------------------------------

SPOOFED = {
    "x_mcp_server": "beta",
    "mcp_name": "delete",
    "mcp_method": "tools/list",
    "x_mcp_session_key": "beta",
    "mcp_proxy": "server=beta",
    "x_envoy_original_path": "/other",
    "x_envoy_attempt_count": "2",
    "x_envoy_upstream_alt_stat_name": "beta",
    "x_rewrite_url": "/other",
    "x_original_url": "/other",
    "x_http_method_override": "GET",
    "x_forwarded_host": "www.example.com",
    "x_mcp_client_capabilities": "{}",
}


async def test_virtual_servers_on_a_listener_that_others_own(
    tmp_path: Path, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """By path, host and header, as on a listener of our own. The listener's policies judge them, too."""
    for server in (alpha, beta):
        server.pages = [[tool("look"), tool("change")]]
    virtual: dict[str, Any] = {
        "reading": {"servers": {"alpha": {"tools": ["look"]}}, "rename": {"tools": {"alpha__look": "see"}}},
        "by-host": {"host": "tools.example.com", "servers": {"beta": "all"}},
        "by-header": {"path": "/mcp", "headers": {"x-tenant": "acme"}, "servers": {"beta": {"tools": ["look"]}}},
    }
    servers = {"alpha": {"url": alpha.url}, "beta": {"url": beta.url}}
    text = EXISTING.replace('domains: [api.example.com, "api', 'domains: [api.example.com, tools.example.com, "api')
    config: dict[str, Any] = {"virtual_servers": virtual, "virtual_server_header": True}
    async with shop(tmp_path, servers, text, **config) as running:
        client, sessions = running.client, dict[str, str | None]()
        places: list[tuple[dict[str, str], set[str]]] = [
            ({}, {"alpha__look", "alpha__change", "beta__look", "beta__change"}),
            ({"path": "/mcp/reading"}, {"see"}),
            ({"host": "tools.example.com"}, {"beta__look", "beta__change"}),
            ({"x_tenant": "acme"}, {"beta__look"}),
            ({"x_mcp_virtualserver": "reading"}, {"see"}),
        ]
        for where, offered in places:
            client.session = None
            await client.initialize(**where)
            sessions[json.dumps(where)] = client.session
            listed = (await client.rpc("tools/list", **where)).result["tools"]
            assert {entry["name"] for entry in listed} == offered, where
            for name in ("see", "alpha__look", "alpha__change", "beta__look", "beta__change"):
                assert ("result" in (await client.call(name, **where)).json) is (name in offered), (where, name)
        assert (await client.rpc("tools/list", path="/mcp/reading", mcp_session_id=sessions["{}"] or "")).status == 404
        assert (await client.rpc("tools/list", path="/mcp/nobody")).json["path"] == "/mcp/nobody", "the website's"


async def test_a_clients_headers_choose_nothing(tmp_path: Path, alpha: ScriptedServer, beta: ScriptedServer) -> None:
    """Neither the server nor the verdict, and none of them reaches a server."""
    async with shop(tmp_path, {"alpha": {"url": alpha.url}, "beta": {"url": beta.url}}) as running:
        await running.client.initialize()
        for name, value in SPOOFED.items():
            sent = {name: value}
            answer = await running.client.call("alpha__echo", **sent)
            assert "result" in answer.json, (name, answer.body)
            assert denied(await running.client.call("alpha__delete", **sent)), name
        [*calls] = alpha.calls("tools/call")
        assert len(calls) == len(SPOOFED)
        assert not beta.calls("tools/call")
        for call in calls:
            assert call.headers["mcp-name"] == "echo"
            assert call.headers["mcp-method"] == "tools/call"
            assert call.headers["x-envoy-attempt-count"] == "1"
            spoofed = {name.replace("_", "-") for name in SPOOFED} - {"mcp-name", "mcp-method", "x-envoy-attempt-count"}
            # What was declared at initialize travels for the repair listener.
            assert not (spoofed - {"x-mcp-client-capabilities"}) & call.headers.keys()
        assert running.site.paths == []


OTHER_PATHS = [
    "/MCP", "/Mcp", "/mcp;x", "/mcp;x=y", "/mcp/", "/mcp/.", "/mcp/x", "/mcp%00", "/mcp%20", "/mcp%3f", "/mcp.", "/mcp%3Fx",
    "/%6Dcp%3b", "/xmcp", "/mcp,", "/mcp%0a", "/%256dcp",
]  # fmt: skip

ENDPOINT_WHEN_NORMALIZED = [
    "/mcp", "/mcp?x=y", "/mcp?", "/mcp?a=/../..", "//mcp", "///mcp", "/./mcp", "/x/../mcp", "/mcp/../mcp", "/%6dcp",
    "/%6D%63%70", "/x/%2e%2e/mcp", "/mcp?x=%2F..%2F",
]  # fmt: skip


async def _where(running: Shop, path: str) -> str:
    """Who answered a call that is denied, sent to a path."""
    before = len(running.site.paths)
    answer = await running.client.call("alpha__delete", path=path)
    if len(running.site.paths) > before:
        return "website"
    body = answer.body.decode()
    if '"result"' not in body and '"denied"' in body:
        return "denied"
    return f"{answer.status} {body}"


async def test_paths_are_the_endpoint_or_are_not(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Whatever is normalized to the endpoint meets its policies; whatever is not goes where it went before."""
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}) as running:
        await running.client.initialize()
        streams = await running.streams()
        for path in ENDPOINT_WHEN_NORMALIZED:
            assert await _where(running, path) == "denied", path
        assert await running.streams() == streams + len(ENDPOINT_WHEN_NORMALIZED)
        for path in OTHER_PATHS:
            found = await _where(running, path)
            assert found == "website" or found.startswith("400"), (path, found)
        assert await running.streams() == streams + len(ENDPOINT_WHEN_NORMALIZED)
        assert not alpha.calls("tools/call")


async def test_paths_on_a_listener_that_normalizes_nothing(tmp_path: Path, alpha: ScriptedServer) -> None:
    text = EXISTING
    for setting in ("normalize_path: true", "merge_slashes: true", "path_with_escaped_slashes_action: REJECT_REQUEST"):
        assert setting in text
        text = text.replace(f"          {setting}\n", "")
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}, text) as running:
        await running.client.initialize()
        exact = [path for path in ENDPOINT_WHEN_NORMALIZED if path.partition("?")[0] == "/mcp"]
        for path in exact:
            assert await _where(running, path) == "denied", path
        streams = await running.streams()
        for path in [*OTHER_PATHS, *(path for path in ENDPOINT_WHEN_NORMALIZED if path not in exact)]:
            found = await _where(running, path)
            assert found == "website" or found.startswith("400"), (path, found)
        assert await running.streams() == streams
        assert not alpha.calls("tools/call")


async def test_path_parameters_are_no_way_around(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Envoy may be told to ignore them: then the route is the endpoint's, and the gateway says no."""
    text = EXISTING.replace(
        "            name: shop\n",
        "            name: shop\n            ignore_path_parameters_in_path_matching: true\n",
        1,
    )
    assert text != EXISTING
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}, text) as running:
        await running.client.initialize()
        for path in ("/mcp;x", "/mcp;x=y?z"):
            answer = await running.client.call("alpha__echo", path=path)
            assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
        assert not alpha.calls("tools/call")


async def test_upgrades_are_no_way_around(tmp_path: Path, alpha: ScriptedServer) -> None:
    """The listener lets WebSockets through, and an upgraded request has no body that could be read."""
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}) as running:
        await running.client.initialize()
        received = len(alpha.received)
        for upgrade in ("websocket", "Websocket", "other"):
            headers = {
                "connection": "upgrade",
                "upgrade": upgrade,
                "sec_websocket_version": "13",
                "sec_websocket_key": "a" * 24,
            }
            answer = await running.client.send("/mcp", body=b"", accept="text/html", **headers)
            assert (answer.status, answer.headers["content-type"]) == (403, "application/json"), answer
        assert len(alpha.received) == received
        assert running.site.paths == []
