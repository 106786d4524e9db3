"""Endpoints of one listener, each with methods of its own, in an Envoy without a worker: what passes is 503."""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.watched_files import render
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.authorization_server import AuthorizationServer
from tests.support.policy_services import Callers, Verdict
from tests.support.processes import free_port, http_server
from tests.support.tls import Authority
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = "https://gw.example"
METADATA = "/.well-known/oauth-protected-resource"
READERS = "https://readers.example"
ALICE, BOB = "alice-" + "a" * 20, "bob-" + "b" * 20

NOTHING, KEY, OTHER_KEY, CERTIFICATE, PASSWORD, BAD_PASSWORD = (
    "nothing", "a key", "a key of another file", "a certificate", "a password", "a wrong password",
)  # fmt: skip
TOKEN, TEAMS_TOKEN, READERS_TOKEN = "a token", "a token for the team", "a token for readers"
BROUGHT = (
    NOTHING, KEY, OTHER_KEY, CERTIFICATE, PASSWORD, BAD_PASSWORD, TOKEN, TEAMS_TOKEN, READERS_TOKEN,
)  # fmt: skip

PASSES = {
    "": {KEY, TOKEN},
    "team": {KEY, TEAMS_TOKEN},
    "readers": {READERS_TOKEN},
    "keys": {OTHER_KEY},
    "certificates": {CERTIFICATE},
    "service": {PASSWORD},
    "anyone": {NOTHING, KEY, OTHER_KEY, CERTIFICATE, READERS_TOKEN},
    "away": {READERS_TOKEN},
    "keys away": {OTHER_KEY},
    "open": {NOTHING, KEY, OTHER_KEY, CERTIFICATE, PASSWORD, BAD_PASSWORD, TOKEN, TEAMS_TOKEN, READERS_TOKEN},
}
"""By endpoint."""

HOSTS = {"away": "a.away.example", "keys away": "keys.example:8443"}
"""Of endpoints that have one, at the path of the main one."""

TEXTS = {
    "": ("an access token", "an API key"),
    "readers": ("an access token",),
    "keys": ("an API key",),
    "certificates": ("a client certificate",),
    "service": ("what the authentication service asks for",),
}
"""What is named in the answer to who brings nothing."""


def judge(headers: Mapping[str, str]) -> Verdict:
    good = headers.get("authorization") == "Basic good"
    return Verdict(headers={"x-user": "carol"}) if good else Verdict(401, {"www-authenticate": "of the service"})


@dataclass
class Stage:
    idp: AuthorizationServer
    port: int
    clients: Mapping[bool, aiohttp.ClientSession]
    """With a certificate, and without."""

    async def get(self, path: str, *, certified: bool = False, **headers: str) -> tuple[int, Mapping[str, str], Any]:
        url = f"https://127.0.0.1:{self.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.clients[certified].get(url, headers=named) as answer:
            text = await answer.text()
            return answer.status, answer.headers, json.loads(text) if text else None

    async def tried(self, endpoint: str, brought: str) -> tuple[int, Mapping[str, str], Any]:
        token = self.idp.token
        headers = {
            KEY: {"x_api_key": ALICE},
            OTHER_KEY: {"x_api_key": BOB},
            PASSWORD: {"authorization": "Basic good"},
            BAD_PASSWORD: {"authorization": "Basic x"},
            TOKEN: {"authorization": f"Bearer {token(aud=f'{PUBLIC}/mcp')}"},
            TEAMS_TOKEN: {"authorization": f"Bearer {token(aud=f'{PUBLIC}/mcp/team')}"},
            READERS_TOKEN: {"authorization": f"Bearer {token(aud=READERS)}"},
        }.get(brought, {})
        if endpoint in HOSTS:
            headers["host"] = HOSTS[endpoint]
        return await self.get(path_of(endpoint), certified=brought == CERTIFICATE, **headers)


def path_of(endpoint: str) -> str:
    return f"/mcp/{endpoint}" if endpoint and endpoint not in HOSTS else "/mcp"


def sections(folder: Path, authority: Authority, issuer: str, service: int, port: int) -> dict[str, Any]:
    found = {"issuer": issuer, "jwks": {"uri": f"{issuer}/jwks"}}
    readers = {"issuers": [{**found, "audiences": [READERS]}], "resource": f"{PUBLIC}/for-readers"}
    methods: dict[str, Any] = {
        "readers": {"public_url": "https://readers.example", "oauth": {**readers, "scopes_supported": ["read"]}},
        "keys": {"api_keys": {"file": "others"}},
        "certificates": {"mtls": {"ca": str(authority.ca)}},
        "service": {
            "external": {"http": f"http://127.0.0.1:{service}/", "principal_header": "x-user", "timeout": "20s"}
        },
        "anyone": {"anonymous": True, "oauth": readers},
        "open": {"existing": {"subject": ["their.filter", "user"]}},
    }
    tls = {"certificate": str(authority.certificate("server")), "key": str(authority.key("server"))}
    return {
        "servers": {"a": {"url": "http://127.0.0.1:1/mcp"}},
        "listen": {"port": port, "tls": tls},
        "log": {"access": ""},
        "authentication": {
            "public_url": PUBLIC, "oauth": {"issuers": [found], "scopes_supported": ["all"]}, "api_keys": {"file": "ours"},
        },
        "virtual_servers": {
            "team": {"servers": {"a": "all"}},
            "away": {"hosts": ["*.away.example"], "servers": {"a": "all"}, "authentication": {"oauth": readers}},
            "keys_away": {"host": "keys.example", "servers": {"a": "all"}, "authentication": {"api_keys": {"file": "others"}}},
            **{name: {"servers": {"a": "all"}, "authentication": one} for name, one in methods.items()},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcp-") as found:
        yield Path(found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(folder: Path) -> AsyncIterator[Stage]:
    port = free_port()
    authority = Authority(folder / "tls")
    authority.issue("caller", x509.UniformResourceIdentifier("spiffe://example/caller"))
    async with AsyncExitStack() as stack:
        idp = await stack.enter_async_context(AuthorizationServer())
        callers = await stack.enter_async_context(Callers(judge).serving())
        config = GatewayConfig.model_validate(sections(folder, authority, idp.issuer, callers.http_port, port))
        layout = replace(Layout.in_directory(folder), keys=None)
        keys = {"ours": {"alice": (ALICE,)}, "others": {"bob": (BOB,)}}
        rendered = render(config, layout, folder, keys)
        for file in (rendered.bootstrap, *rendered.watched):
            (folder / file.name).write_bytes(file.text)
        command = [find_envoy(), "-c", str(folder / rendered.bootstrap.name), "--disable-hot-restart"]
        quiet = ["--log-level", "warning", "--component-log-level", "misc:error", "--concurrency", "1"]
        await stack.enter_async_context(http_server([*command, *quiet], port, log=folder / "envoy.log"))
        clients = {}
        for certified in (True, False):
            context = ssl.create_default_context(cafile=authority.ca)
            if certified:
                context.load_cert_chain(authority.certificate("caller"), authority.key("caller"))
            connector = aiohttp.TCPConnector(ssl=context)
            clients[certified] = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        found = Stage(idp, port, clients)
        for endpoint, brought in (
            ("", TOKEN),
            ("team", TEAMS_TOKEN),
            ("readers", READERS_TOKEN),
            ("away", READERS_TOKEN),
            ("anyone", READERS_TOKEN),
        ):

            async def is_503(endpoint: str = endpoint, brought: str = brought) -> bool:
                status, headers, _ = await found.tried(endpoint, brought)
                return status == 503 and headers["x-mcp-error"] == "no_worker"

            await eventually(is_503, "its keys are there")
        yield found


async def test_each_endpoint_believes_its_own_methods(stage: Stage) -> None:
    """Twice: Envoy remembers tokens that it has verified, and what is good at one endpoint stays bad at the next."""
    for _ in range(2):
        found = {
            endpoint: {brought for brought in BROUGHT if (await stage.tried(endpoint, brought))[0] == 503}
            for endpoint in PASSES
        }
        assert found == PASSES


async def test_what_is_refused_is_told_the_endpoints_own_way(stage: Stage) -> None:
    rest = 'resource_metadata="https://'
    ways = {
        "": f'Bearer scope="all", {rest}gw.example{METADATA}/mcp"',
        "team": f'Bearer scope="all", {rest}gw.example{METADATA}/mcp/team"',
        "readers": f'Bearer scope="read", {rest}readers.example{METADATA}/mcp/readers"',
        "keys": "ApiKey",
        "certificates": "Mutual",
        "service": "External",
        "away": f'Bearer {rest}a.away.example{METADATA}/mcp"',
        "keys away": "ApiKey",
    }
    for endpoint, challenge in ways.items():
        status, headers, body = await stage.tried(endpoint, NOTHING)
        assert (status, headers["www-authenticate"]) == (401, challenge), endpoint
        for text in TEXTS.get(endpoint, ()):
            assert text in body["error"]["message"] or endpoint == "service"
    status, headers, body = await stage.tried("anyone", TOKEN)
    told = f'Bearer error="invalid_token", {rest}127.0.0.1:{stage.port}{METADATA}/mcp/anyone"'
    assert (status, headers["www-authenticate"], body["error"]["data"]["reason"]) == (401, told, "invalid_token")


async def test_each_endpoint_has_its_own_metadata(stage: Stage) -> None:
    resources = {
        "": f"{PUBLIC}/mcp",
        "/mcp": f"{PUBLIC}/mcp",
        "/mcp/team": f"{PUBLIC}/mcp/team",
        "/mcp/readers": f"{PUBLIC}/for-readers",
        "/mcp/anyone": f"{PUBLIC}/for-readers",
    }
    for path, resource in resources.items():
        status, headers, document = await stage.get(f"{METADATA}{path}")
        assert (status, headers["access-control-allow-origin"]) == (200, "*")
        assert (document["resource"], document["authorization_servers"]) == (resource, [stage.idp.issuer])
        assert document.get("scopes_supported") == {"/mcp/readers": ["read"], "/mcp/anyone": None}.get(path, ["all"])
    for path in ("", "/mcp"):
        status, _, document = await stage.get(f"{METADATA}{path}", host="x.away.example")
        assert (status, document["resource"]) == (200, f"{PUBLIC}/for-readers")
        assert (await stage.get(f"{METADATA}{path}", host="keys.example"))[0] == 404, "not the main endpoint's"
    for path in ("/mcp/keys", "/mcp/certificates", "/mcp/service", "/mcp/open", "/mcp/unknown"):
        assert (await stage.get(f"{METADATA}{path}"))[0] == 404


async def test_what_clients_say_of_themselves_counts_at_none(stage: Stage) -> None:
    """Headers in which the filters of another endpoint name the caller, too."""
    said = {"x_user": "root", "x_mcp_api_key_name": "root", "x_mcp_certificate_name": "root", "x_mcp_external": "1"}
    for endpoint in PASSES.keys() - {"anyone", "open", *HOSTS}:
        assert (await stage.get(path_of(endpoint), certified=False, **said))[0] == 401


# -- Spellings of a path ------------------------------------------------------------------------------------------------

_BEFORE = ("", "/", "//", "/.", "/x/..", "/%2e", "/%2f", "\\", "/;x", "http://127.0.0.1", "http://evil.example", "*")
_PATHS = (
    "/mcp",
    "/MCP",
    "/mCp",
    "/%6dcp",
    "/m%63p",
    "/m%00cp",
    "/mcp/readers",
    "/mcp%2freaders",
    "/mcp/readers/../team",
)
_BEHIND = (
    "", "/", "//", "/.", "/..", "/../mcp", "/%2e%2e/mcp", ";x", ";x/", "%2f", "%5c", "%3f", "?x", "??", "#x", "%23", "%00",
    "%20", "\\", "?/../open", "/readers/..",
)  # fmt: skip
_SPELLINGS = sorted(
    {before + _PATHS[0] + behind for before in _BEFORE for behind in _BEHIND}
    | {path + behind for path in _PATHS for behind in _BEHIND}
)
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "MCP", "get")
_MISLEADING = {
    "x-original-url": "/mcp/open", "x-rewrite-url": "/mcp/open", "x-envoy-original-path": "/mcp/open",
    "x-http-method-override": "OPTIONS", "x-forwarded-uri": "/mcp/open",
}  # fmt: skip

_NONE = 0
"""In place of a status: no answer, but the end of the connection or the stream."""


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_no_spelling_of_a_path_gets_around(stage: Stage, folder: Path, protocol: str) -> None:
    """What passes is 503: it is refused, or nothing is there, or Envoy itself sends it on to the endpoint."""
    ask = _over_http1 if protocol == "http/1.1" else _over_http2
    context = ssl.create_default_context(cafile=folder / "tls" / "ca.pem")
    context.set_alpn_protocols([protocol])
    some_at_once = asyncio.Semaphore(64)  # Envoy takes a second to end a bad connection

    async def tried(method: str, target: str) -> int:
        async with some_at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.port, ssl=context)
            try:
                return await ask(reader, writer, method, target)
            except (ConnectionError, asyncio.IncompleteReadError):
                return _NONE
            finally:
                writer.transport.abort()

    assert await tried("GET", "/mcp/open") == 503, "it is seen if one passes"
    asked = [("GET", target) for target in _SPELLINGS] + [(method, "/mcp") for method in _METHODS]
    found = await asyncio.gather(*(tried(method, target) for method, target in asked))
    by_request = dict(zip(asked, found, strict=True))
    assert {
        request: status for request, status in by_request.items() if status not in (_NONE, 307, 400, 401, 404)
    } == {}
    assert by_request["GET", "/mcp"] == by_request["POST", "/mcp"] == by_request["GET", "//mcp"] == 401


async def _over_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, target: str) -> int:
    more = "".join(f"{name}: {value}\r\n" for name, value in _MISLEADING.items())
    writer.write(f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n{more}\r\n".encode())
    line = await reader.readline()
    return int(line.split(b" ", 2)[1]) if line else _NONE


async def _over_http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, target: str) -> int:
    config = H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = H2Connection(config)
    connection.initiate_connection()
    pseudo = [(":method", method), (":scheme", "https"), (":path", target), (":authority", "127.0.0.1")]
    connection.send_headers(1, [*pseudo, *_MISLEADING.items()], end_stream=True)
    writer.write(connection.data_to_send())
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                return int(dict(event.headers or ())[b":status"])
            if isinstance(event, StreamReset | ConnectionTerminated):
                return _NONE
        writer.write(connection.data_to_send())
    return _NONE
