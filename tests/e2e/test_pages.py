"""Pages in a browser: CORS at the endpoint, through real Envoy, as `curl` would see it. tests/browser has the browser."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import Answer, TestGateway, access_log_entry
from tests.support.gateway import gateway as start_gateway
from tests.support.scripted import ScriptedServer, echo, hang, raw, tool
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPE = "type.googleapis.com/envoy.extensions.filters.http"
AUTHENTICATION = {
    "name": "envoy.filters.http.basic_auth",
    "typed_config": {
        "@type": f"{TYPE}.basic_auth.v3.BasicAuth",
        "users": {"inline_string": "somebody:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="},
    },
}
CREDENTIALS = f"Basic {base64.b64encode(b'somebody:secret').decode()}"
POLICY = {
    "name": "envoy.filters.http.rbac",
    "typed_config": {
        "@type": f"{TYPE}.rbac.v3.RBAC",
        "rules": {
            "action": "DENY",
            "policies": {
                "nobody": {
                    "principals": [{"any": True}],
                    "permissions": [
                        {
                            "sourced_metadata": {
                                "metadata_matcher": {
                                    "filter": "mcp_proxy",
                                    "path": [{"key": "tool"}],
                                    "value": {"string_match": {"exact": "denied"}},
                                }
                            }
                        }
                    ],
                }
            },
        },
    },
}
GUARDED = {"http_filters_before": [AUTHENTICATION], "http_filters": [POLICY]}
APP, STRANGER = "https://app.example.com", "https://evil.example"
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("http://localhost:3000", {}),
    "policies: all": (APP, {"origins": [APP], "envoy": {**GUARDED, "policies": "all"}}),
    "policies: calls": (
        APP,
        {"origins": ["https://other.example.com", APP], "envoy": {**GUARDED, "policies": "calls"}},
    ),
}
"""An allowed origin, and the configuration."""

EXPOSED = "mcp-session-id, mcp-protocol-version, www-authenticate, retry-after"
WIDE = {
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "*",
    "vary": "accept-encoding",
}
"""What a server may say that is open to every page by itself."""


@dataclass
class Page:
    """What sends requests from a page, to a gateway in front of a server."""

    gateway: TestGateway
    server: ScriptedServer
    origin: str

    async def send(self, body: bytes | None = None, **headers: str) -> Answer:
        """A request with whatever credentials there may have to be."""
        return await self.gateway.send(body, **{"authorization": CREDENTIALS, "origin": self.origin, **headers})

    async def rpc(self, method: str, params: Any = None, **headers: str) -> Answer:
        """One JSON-RPC request."""
        return await self.send(json.dumps(message(method, params)).encode(), **headers)

    async def initialize(self, version: str = "2025-11-25", **headers: str) -> Answer:
        """Open a session."""
        client = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "page", "version": "0"}}
        return await self.rpc("initialize", client, **headers)

    async def session(self, version: str = "2025-11-25") -> str:
        """The id of a new session."""
        return (await self.initialize(version)).headers["mcp-session-id"]

    async def preflight(self, **headers: str) -> Answer:
        """What a browser asks before the first request. It has no credentials."""
        asked = {
            "origin": self.origin,
            "access_control_request_method": "POST",
            "access_control_request_headers": "authorization,content-type,mcp-session-id,x-anything",
        }
        return await self.gateway.send(None, method="OPTIONS", **{**asked, **headers})


def message(method: str, params: Any = None, id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}


def cors(answer: Answer) -> dict[str, list[str]]:
    """The headers of an answer that are about pages, each with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in answer.headers.items():
        if name.lower().startswith("access-control-"):
            found.setdefault(name.lower().removeprefix("access-control-"), []).append(value)
    return found


def readable(page: Page) -> dict[str, list[str]]:
    """The headers by which a page may read an answer."""
    return {"allow-origin": [page.origin], "expose-headers": [EXPOSED]}


async def _open_to_all(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    response = echo(message)
    response.headers.update(WIDE)
    return response


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LAYOUTS)
async def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    origin, config = LAYOUTS[request.param]
    async with (
        ScriptedServer("alpha", pages=[[tool("echo"), tool("denied")]], on={"tools/call": _open_to_all}) as server,
        start_gateway(
            tmp_path_factory.mktemp("gateway"), {"alpha": server.url}, limits={"request_bytes": 10000}, **config
        ) as gateway,
    ):
        yield Page(gateway, server, origin)


async def test_preflights_are_answered_without_credentials_worker_or_server(page: Page) -> None:
    received = len(page.server.received)
    answer = await page.preflight(user_agent="before a call")
    assert (answer.status, answer.body) == (200, b"")
    assert cors(answer) == {
        "allow-origin": [page.origin],
        "allow-methods": ["GET, POST, DELETE"],
        "allow-headers": ["authorization,content-type,mcp-session-id,x-anything"],
        "max-age": ["7200"],
        "expose-headers": [EXPOSED],
    }
    logged = await access_log_entry(page.gateway.access_log, {"user_agent": "before a call"})
    assert logged["response_code_details"] == "cors_response"
    assert logged.get("error.type") is None
    assert len(page.server.received) == received


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER, "null", "http://localhost.evil.example", "https://app.example.com.evil.example", "http://localhost:99999",
        "http://127.0.0.256:3000",
    ],
)  # fmt: skip
async def test_pages_that_may_not_call(page: Page, origin: str) -> None:
    answer = await page.preflight(origin=origin)
    assert (answer.status, cors(answer).get("allow-origin")) == (200, None)
    for answer in (await page.initialize(origin=origin), await page.send(None, method="OPTIONS", origin=origin)):
        assert (answer.status, cors(answer)) == (403, {})


async def test_private_networks(page: Page) -> None:
    """A page of a public address may call a gateway on localhost, where it may call at all."""
    answer = await page.preflight(access_control_request_private_network="true")
    assert cors(answer)["allow-private-network"] == ["true"]


@pytest.mark.parametrize("origin", ["", "the page's"])
async def test_options_that_is_no_preflight(page: Page, origin: str) -> None:
    answer = await page.send(None, method="OPTIONS", origin=page.origin if origin else "")
    assert (answer.status, answer.headers["allow"], answer.headers["vary"]) == (405, "POST, GET, DELETE", "origin")
    assert cors(answer) == (readable(page) if origin else {})


async def test_a_page_has_a_session(page: Page) -> None:
    opened = await page.initialize()
    session = opened.headers["mcp-session-id"]
    listed = await page.rpc("tools/list", mcp_session_id=session)
    called = await page.rpc("tools/call", {"name": "alpha__echo"}, mcp_session_id=session)
    async with page.gateway.http.get(
        page.gateway.url,
        headers={
            "authorization": CREDENTIALS,
            "origin": page.origin,
            "accept": "text/event-stream",
            "mcp-session-id": session,
        },
    ) as stream:
        streamed = Answer(stream.status, stream.headers, b"")
    ended = await page.send(None, method="DELETE", mcp_session_id=session)
    answers = [opened, listed, called, streamed, ended]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 204]
    assert [cors(answer) for answer in answers] == [readable(page)] * 5
    # Chromium sends the DELETE twice, and the second gets 404, if it may store a stream that the page left.
    assert streamed.headers["cache-control"] == "no-store"
    # nginx, with its defaults, would keep it.
    assert streamed.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("origin", [True, False], ids=["from a page", "from no page"])
async def test_a_server_allows_no_page_anything(page: Page, origin: bool) -> None:
    session = await page.session()
    answer = await page.rpc(
        "tools/call", {"name": "alpha__echo"}, mcp_session_id=session, origin=page.origin if origin else ""
    )
    assert "result" in answer.json
    assert cors(answer) == (readable(page) if origin else {})
    assert answer.headers["vary"] == "accept-encoding"


ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "no JSON": (400, {"body": b"{"}),
    "no session": (404, {"mcp_session_id": "none"}),
    "accept": (406, {"accept": "text/html"}),
    "too large": (413, {"body": b" " * 20000}),
    "content type": (415, {"content_type": "text/plain"}),
    "a stream without a session": (405, {"method": "GET", "accept": "text/event-stream"}),
    "not a method": (405, {"method": "PUT"}),
    "unknown version": (400, {"mcp_protocol_version": "2000-01-01"}),
    "another host": (403, {"host": "rebound.example"}),
}


@pytest.mark.parametrize("error", ERRORS)
async def test_errors_can_be_read(page: Page, error: str) -> None:
    status, request = ERRORS[error]
    answer = await page.send(**{"body": json.dumps(message("ping")).encode(), **request})
    assert (answer.status, cors(answer)) == (status, readable(page))
    assert "error" in answer.json


async def test_calls_that_fail_can_be_read(page: Page) -> None:
    session = await page.session()
    unknown = await page.rpc("tools/call", {"name": "beta__echo"}, mcp_session_id=session)
    assert (unknown.error["code"], cors(unknown)) == (-32602, readable(page))
    page.server.on["tools/call"] = raw(500, "text/html", "<h1>broken</h1>")
    try:
        failed = await page.rpc("tools/call", {"name": "alpha__echo"}, mcp_session_id=session)
        nobody = await page.rpc("tools/call", {"name": "alpha__echo"}, mcp_session_id=session, origin="")
    finally:
        page.server.on["tools/call"] = _open_to_all
    assert "answered HTTP 500" in failed.error["message"]
    # Envoy replaced the response behind the back of its CORS filter, which would have exposed headers that it has not.
    assert cors(failed) == {"allow-origin": [page.origin]}
    assert cors(nobody) == {}


async def test_batches_have_the_headers_once(page: Page) -> None:
    session = await page.session("2025-03-26")
    calls = [message("tools/call", {"name": "alpha__echo"}, id) for id in (1, 2)]
    answer = await page.send(json.dumps(calls).encode(), mcp_session_id=session)
    assert [item["id"] for item in json.loads(answer.body) if "result" in item] == [1, 2]
    assert cors(answer) == readable(page)


async def test_without_a_worker(page: Page) -> None:
    """Killed while it works: Envoy answers by itself."""
    arrived = len(page.server.received)
    page.server.on["initialize"] = hang
    try:
        waiting = asyncio.create_task(page.initialize())
        await eventually(lambda: len(page.server.received) > arrived, "the server to be asked")
        page.gateway.signal_workers(signal.SIGKILL)
        answer = await waiting
    finally:
        del page.server.on["initialize"]
    assert (answer.status, cors(answer)) == (503, readable(page))
    await eventually(page.initialize, "the next worker", until=lambda answer: answer.status == 200)


@pytest.mark.parametrize("policies", ["all", "calls"])
async def test_refusals_of_the_operators_filters_can_be_read(tmp_path: Path, policies: str) -> None:
    async with (
        ScriptedServer("alpha", pages=[[tool("denied")]]) as server,
        start_gateway(
            tmp_path, {"alpha": server.url}, origins=["*"], envoy={**GUARDED, "policies": policies}
        ) as gateway,
    ):
        page = Page(gateway, server, "null")
        anonymous = await page.initialize(authorization="")
        assert (anonymous.status, anonymous.headers["www-authenticate"][:5]) == (401, "Basic")
        denied = await page.rpc("tools/call", {"name": "alpha__denied"}, mcp_session_id=await page.session())
        assert denied.error["data"] == {"reason": "denied", "status": 403}
        told = await page.preflight()
        for answer in (anonymous, denied, told):
            assert cors(answer)["allow-origin"] == ["null"]
            assert cors(answer)["expose-headers"] == [EXPOSED]
            assert "allow-credentials" not in cors(answer)
