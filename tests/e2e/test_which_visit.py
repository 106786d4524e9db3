"""A worker knows by two headers whether a request has been judged or is to be: nobody but Envoy's configuration says so."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset

from tests.e2e.conftest import StartGateway
from tests.e2e.test_attach import API, HTTPS, shop
from tests.support import own_envoy
from tests.support.gateway import ACCEPT
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE

HTTP = "type.googleapis.com/envoy.extensions.filters.http"

SECRET = "of-the-server"

BANNED: dict[str, Any] = {
    "name": "rbac",
    "typed_config": {"@type": f"{HTTP}.rbac.v3.RBAC", "rules": {"action": "DENY", "policies": {"banned": {
        "permissions": [{"any": True}], "principals": [{"header": {"name": "x-banned", "present_match": True}}],
    }}}},
}  # fmt: skip
"""What an attached listener has, too: who sends this header gets nothing."""

MESSAGES = ("tools/call", "tools/list", "initialize", "ping")


@dataclass(frozen=True)
class Forged:
    """A request of a client that chooses how it looks to Envoy."""

    lines: tuple[tuple[str, str], ...] = ()
    target: str = "/mcp"
    scheme: tuple[str, ...] | None = None
    """HTTP/2's; ``None`` for HTTP/1.1."""
    serves: bool = True
    """Whether it is answered for certain. Others Envoy may refuse."""


FORGED = [
    Forged(),
    Forged((("x-forwarded-proto", "https"),)),
    Forged((("x-forwarded-proto", ""),)),
    Forged((("x-forwarded-proto", "ftp"), ("x-forwarded-proto", "junk"))),
    Forged((("x_forwarded_proto", "https"),)),
    Forged((("x-mcp-early", "1"), ("x-mcp-metadata", "method;method"))),
    Forged((("connection", "x-forwarded-proto"),), serves=False),
    Forged((("connection", ":scheme"),), serves=False),
    Forged((("x-envoy-original-scheme", "http"), ("scheme", "http"))),
    Forged(target="http://{host}/mcp", serves=False),
    Forged(target="https://{host}/mcp", serves=False),
    Forged(target="ftp://{host}/mcp", serves=False),
    Forged(scheme=("http",)),
    Forged(scheme=("https",)),
    Forged((("x-forwarded-proto", ""),), scheme=("http",)),
    Forged(scheme=(), serves=False),
    Forged(scheme=("",), serves=False),
    Forged(scheme=("http", "https"), serves=False),
    Forged(scheme=("ftp",), serves=False),
]


@dataclass
class Way:
    """To a listener."""

    port: int
    host: str
    session: str
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def answer(self, forged: Forged, method: str, **more: str) -> bytes:
        """All that comes back of one request."""
        params: dict[str, Any] = {"name": "alpha__echo", "arguments": {}} if method == "tools/call" else {}
        if method == "initialize":
            params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        headers = {"content-type": "application/json", "accept": ACCEPT, **self.headers, **more}
        if method != "initialize":
            headers["mcp-session-id"] = self.session
        fields = [*headers.items(), *forged.lines]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        try:
            async with asyncio.timeout(PATIENCE):
                if forged.scheme is None:
                    return await self._over_http1(reader, writer, forged, fields, body)
                return await self._over_http2(reader, writer, forged.scheme, fields, body)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def _over_http1(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        forged: Forged,
        fields: list[tuple[str, str]],
        body: bytes,
    ) -> bytes:
        head = [f"POST {forged.target.format(host=self.host)} HTTP/1.1", f"host: {self.host}"]
        head += [f"{name}: {value}" for name, value in fields]
        head += [f"content-length: {len(body)}"]
        if not any(name == "connection" for name, _ in fields):
            head.append("connection: close")
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        return await reader.read()

    async def _over_http2(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        schemes: tuple[str, ...],
        fields: list[tuple[str, str]],
        body: bytes,
    ) -> bytes:
        connection = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None)
        )
        connection.initiate_connection()
        pseudo = [(":method", "POST"), *((":scheme", scheme) for scheme in schemes)]
        connection.send_headers(1, [*pseudo, (":authority", self.host), (":path", "/mcp"), *fields])
        connection.send_data(1, body, end_stream=True)
        writer.write(connection.data_to_send())
        got = b""
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                match event:
                    case DataReceived():
                        got += event.data or b""
                    case StreamEnded() | StreamReset():
                        return got
        return got


async def nothing_passes(way: Way, alpha: ScriptedServer) -> None:
    """What is denied has no other answer, and no effect. The same is served where it is not denied."""
    before = len(alpha.received)
    for forged in FORGED:
        for method in MESSAGES:
            answer = await way.answer(forged, method, **{"x-banned": "1"})
            assert b'"result"' not in answer, (forged, method, answer)
            assert not forged.serves or b'"denied"' in answer, (forged, method, answer)
    assert len(alpha.received) == before
    await are_served(way, alpha)


async def are_served(way: Way, alpha: ScriptedServer) -> None:
    """What is the client's own never reaches a server in the place of what is the server's."""
    served = 0
    for forged in FORGED:
        for method in MESSAGES:
            answer = await way.answer(forged, method)
            assert b'"result"' in answer or not forged.serves, (forged, method, answer)
        served += forged.serves
    calls = alpha.calls("tools/call")
    assert len(calls) >= served
    for call in calls:
        assert call.path == f"/mcp?token={SECRET}"
        assert call.headers["authorization"] == f"Bearer {SECRET}"
        assert call.headers["mcp-session-id"] in alpha.sessions


def section(alpha: ScriptedServer) -> dict[str, Any]:
    return {"url": f"{alpha.url}?token={SECRET}", "headers": {"Authorization": f"Bearer {SECRET}"}}


@pytest.mark.parametrize("policies", [[BANNED], []], ids=["policy", "none"])
async def test_no_client_chooses_the_visit(
    start: StartGateway, alpha: ScriptedServer, policies: list[dict[str, Any]]
) -> None:
    """With a policy a decision before it would have effects; without, a request would stay the client's."""
    async with start({"alpha": section(alpha)}, envoy={"http_filters": policies}) as gateway:
        host = f"localhost:{gateway.local.port}"
        own = {"authorization": "Bearer of-the-client"}
        way = Way(gateway.local.port, host, await gateway.initialize(), headers=own)
        await (nothing_passes if policies else are_served)(way, alpha)


async def test_nor_on_a_listener_that_others_own(tmp_path: Path, alpha: ScriptedServer) -> None:
    async with shop(tmp_path, {"alpha": section(alpha)}) as running:
        await running.client.initialize()
        assert running.client.session is not None
        way = Way(running.place.port(HTTPS), API, running.client.session, own_envoy.trusting(running.place))
        await nothing_passes(way, alpha)


LUA = 'function envoy_on_request(handle) handle:headers():remove(":scheme") end'


@pytest.mark.parametrize("name", ["lua", "header_mutation"])
async def test_who_removes_what_tells_visits_apart_gets_nothing_through(
    start: StartGateway, alpha: ScriptedServer, name: str
) -> None:
    """A filter of the operator's in front of the gateway's."""
    lua = {"@type": f"{HTTP}.lua.v3.Lua", "default_source_code": {"inline_string": LUA}}
    removing = {"request_mutations": [{"remove": "x-forwarded-proto"}]}
    mutation = {"@type": f"{HTTP}.header_mutation.v3.HeaderMutation", "mutations": removing}
    before = {"name": name, "typed_config": lua if name == "lua" else mutation}
    policies = [] if name == "lua" else [BANNED]
    async with start(
        {"alpha": section(alpha)}, envoy={"http_filters_before": [before], "http_filters": policies}
    ) as gateway:
        way = Way(gateway.local.port, f"localhost:{gateway.local.port}", "none")
        answer = await way.answer(FORGED[0], "initialize")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == -32603
    assert alpha.received == []
