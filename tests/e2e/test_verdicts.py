"""All methods in one gateway: every combination of what may be brought, and what becomes of it. Attached to a listener that
others own, too, whose TLS verifies the same certificates."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509

from tests.e2e.test_attach_authentication import PORT, theirs, with_keys
from tests.support import own_envoy
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestClient, access_log_entry
from tests.support.gateway import gateway as start
from tests.support.policy_services import Callers, Verdict
from tests.support.scripted import ScriptedServer
from tests.support.tls import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
KEY = "by-key-" + "a" * 20
CERTIFICATE = "spiffe://example/by-certificate"

KEYS = ("", "key", "wrong key")
AUTHORIZATIONS = ("", "token", "token of another issuer", "wrong token", "password", "wrong password")
COOKIES = ("", "cookie", "wrong cookie")
CERTIFICATES = ("", "certificate", "certificate without a name")


def judge(headers: Mapping[str, str]) -> Verdict:
    """Refuses what has anything wrong in it."""
    brought = re.findall(r"^Basic (.*)", headers.get("authorization", "")) + re.findall(
        r"session=(\w+)", headers.get("cookie", "")
    )
    named = Verdict(headers={"x-user": "by-service"})
    return named if brought and set(brought) == {"good"} else Verdict(401, {"x-reason": "secret"})


@dataclass
class Stage:
    idp: AuthorizationServer
    other: AuthorizationServer
    access_log: Path
    clients: Mapping[str, TestClient]
    """By certificate."""
    stranger: TestClient
    """With a certificate of another authority, of the same name."""
    anonymous: bool

    def headers(self, key: str, authorization: str, cookie: str) -> dict[str, str]:
        """What is sent."""
        sent = {
            "key": {"x_api_key": KEY},
            "wrong key": {"x_api_key": "x" * 20},
            "token": {"authorization": f"Bearer {self.idp.token()}"},
            "token of another issuer": {"authorization": f"Bearer {self.other.token()}"},
            "wrong token": {"authorization": f"Bearer {self.idp.token(aud='https://elsewhere.example')}"},
            "password": {"authorization": "Basic good"},
            "wrong password": {"authorization": "Basic x"},
            "cookie": {"cookie": "a=b; session=good"},
            "wrong cookie": {"cookie": "a=b; session=x"},
        }
        return {name: value for one in (key, authorization, cookie) if one for name, value in sent[one].items()}

    def expected(self, key: str, authorization: str, cookie: str, certificate: str) -> tuple[str, ...]:
        """By docs/authentication.md, "Several methods": who it is, or why it is refused."""
        wrong = {
            "wrong key": "invalid_api_key",
            "wrong token": "invalid_token",
            "wrong password": "authentication_denied",
            "wrong cookie": "authentication_denied",
        }
        refused = [wrong[one] for one in (key, authorization, cookie) if one in wrong]
        if refused:
            return ("refused", refused[0])
        proven = {
            "key": ("by-key", "api_keys"),
            "token": ("by-token", self.idp.issuer),
            "token of another issuer": ("by-token", self.other.issuer),
            "password": ("by-service", "external"),
            "cookie": ("by-service", "external"),
            "certificate": (CERTIFICATE, "mtls"),
        }
        # A key before a token, that before a service, a certificate last.
        who = [proven[one] for one in (key, authorization, cookie, certificate) if one in proven]
        if who:
            return who[0]
        is_nothing = (key, authorization, cookie, certificate) == ("", "", "", "")
        return ("anonymous",) if self.anonymous and is_nothing else ("refused", "authentication_required")


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=list(itertools.product(("own", "attached"), ("named", "anonymous"))),
    ids="-".join,
)
async def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "keys.yaml").write_text(json.dumps({"by-key": KEY}))
    listener, kind = request.param
    async with AsyncExitStack() as stack:
        idps = [await stack.enter_async_context(AuthorizationServer(subject="by-token")) for _ in range(2)]
        alpha = await stack.enter_async_context(ScriptedServer("alpha"))
        callers = await stack.enter_async_context(Callers(judge).serving())
        issuers = [
            {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}} for idp in idps
        ]
        authentication = {
            "anonymous": kind == "anonymous",
            "oauth": {"issuers": issuers},
            "api_keys": {"file": str(folder / "keys.yaml")},
            "external": {
                "grpc": f"127.0.0.1:{callers.grpc_port}",
                "timeout": "20s",  # whatever the machine is busy with
                "from": [{"header": "authorization"}, {"cookie": "session"}],
                "principal_header": "x-user",
            },
        }
        begin = _attached if listener == "attached" else _own
        authority, other = Authority(folder), Authority(folder / "other")
        for one in (authority, other):
            one.issue("certificate", x509.UniformResourceIdentifier(CERTIFICATE))
        authority.issue("certificate without a name")
        authentication["mtls"] = {"ca": str(authority.ca)}
        begin = _attached if listener == "attached" else _own
        access_log, url = await begin(stack, folder, authority, alpha.url, authentication)
        own = {name: (authority, name) if name else None for name in CERTIFICATES}
        clients = {name: await _client(stack, url, authority, found) for name, found in own.items()}
        stranger = await _client(stack, url, authority, (other, "certificate"))
        yield Stage(idps[0], idps[1], access_log, clients, stranger, kind == "anonymous")


async def _client(
    stack: AsyncExitStack, url: str, server: Authority, certificate: tuple[Authority, str] | None
) -> TestClient:
    context = ssl.create_default_context(cafile=server.ca)
    if certificate is not None:
        authority, name = certificate
        context.load_cert_chain(authority.certificate(name), authority.key(name))
    connector = aiohttp.TCPConnector(ssl=context)
    return TestClient(url, await stack.enter_async_context(aiohttp.ClientSession(connector=connector)))


_Begun = tuple[Path, str]


async def _own(
    stack: AsyncExitStack, folder: Path, authority: Authority, server: str, authentication: Mapping[str, Any]
) -> _Begun:
    tls = {"certificate": str(authority.certificate("server")), "key": str(authority.key("server"))}
    gateway = await stack.enter_async_context(
        start(folder, {"alpha": server}, listen={"tls": tls}, authentication=authentication)
    )
    return gateway.access_log, gateway.url.replace("localhost", "127.0.0.1")


async def _attached(
    stack: AsyncExitStack, folder: Path, authority: Authority, server: str, authentication: Mapping[str, Any]
) -> _Begun:
    place = await stack.enter_async_context(own_envoy.place(folder / "place", PORT))
    access_log = folder / "access.log"
    document = {
        "servers": {"alpha": {"url": server, "prefix": ""}},
        "log": {"access": ""},
        "authentication": authentication,
    }
    (folder / "gateway.yaml").write_text(json.dumps(document))
    existing = theirs(log_to(access_log))
    [chain] = existing["static_resources"]["listeners"][0]["filter_chains"]
    chain["transport_socket"] = tls_of(authority)
    arguments = ["envoy", "attach", "--config", str(folder / "gateway.yaml"), "-", "--without-jwt-authn"]
    out, _ = await own_envoy.printed(place, *arguments, stdin=json.dumps(existing))
    await stack.enter_async_context(own_envoy.worker(place, json.dumps(document)))
    text = place.moved(with_keys(out, {"by-key": KEY}))
    await stack.enter_async_context(own_envoy.envoy(place, text, place.port(PORT)))
    return access_log, f"https://127.0.0.1:{place.port(PORT)}/mcp"


def tls_of(authority: Authority) -> dict[str, Any]:
    """A listener's TLS, which verifies certificates of an authority, and asks for none."""
    own = {
        "certificate_chain": {"filename": str(authority.certificate("server"))},
        "private_key": {"filename": str(authority.key("server"))},
    }
    verified = {"trusted_ca": {"filename": str(authority.ca)}}
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [own], "validation_context": verified},
    }
    return {"name": "tls", "typed_config": context}


def log_to(file: Path) -> dict[str, Any]:
    """Their access log, which names callers as the gateway's own does."""
    named = {
        "user_agent": "%REQ(user-agent)%",
        "enduser.id": "%DYNAMIC_METADATA(mcp_proxy:principal)%",
        "mcp.principal.issuer": "%DYNAMIC_METADATA(mcp_proxy:issuer)%",
    }
    return {
        "name": "file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(file),
            "log_format": {"json_format": named},
        },
    }


async def test_every_combination(stage: Stage) -> None:
    """Any method suffices, and what is brought and wrong is refused, whatever else is good. What a client says of itself
    counts for nothing."""
    claims = base64.urlsafe_b64encode(json.dumps({"iss": stage.idp.issuer, "sub": "root"}).encode()).rstrip(b"=")
    spoofed = {
        "x_user": "root",
        "x_mcp_api_key_name": "root",
        "x_mcp_certificate_name": "root",
        "x_mcp_external": "1",
        "x_mcp_claims": claims.decode(),
    }
    combinations = list(itertools.product(KEYS, AUTHORIZATIONS, COOKIES, stage.clients))
    assert len(combinations) == 162
    some_at_once = asyncio.Semaphore(8)

    async def tried(brought: tuple[str, ...]) -> Answer:
        *rest, certificate = brought
        headers = {**spoofed, **stage.headers(*rest), "user_agent": _agent(brought)}
        async with some_at_once:
            return await stage.clients[certificate].rpc("initialize", INITIALIZE, **headers)

    answers = await asyncio.gather(*map(tried, combinations))
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for brought, answer in zip(combinations, answers, strict=True):
        if answer.status != 200:
            assert (answer.status, answer.error["data"]["status"]) == (401, 401), brought
            assert "resource_metadata=" in answer.headers["www-authenticate"], brought
            found[brought] = ("refused", answer.error["data"]["reason"])
            continue
        entry = await access_log_entry(stage.access_log, {"user_agent": _agent(brought)})
        named = entry.get("enduser.id")
        found[brought] = (named, entry["mcp.principal.issuer"]) if named is not None else ("anonymous",)
    assert found == {brought: stage.expected(*brought) for brought in combinations}


def _agent(brought: tuple[str, ...]) -> str:
    return ", ".join(one or "none" for one in brought)


async def test_a_certificate_of_another_authority_ends_the_handshake(stage: Stage) -> None:
    with pytest.raises((aiohttp.ClientError, OSError)):
        await stage.stranger.rpc("initialize", INITIALIZE)


async def test_messages_of_a_batch_have_the_certificates_name(stage: Stage) -> None:
    """They come to Envoy from a worker, without a certificate; what a client writes into the header is nothing."""
    batch = [{"jsonrpc": "2.0", "id": id, "method": "tools/list"} for id in (1, 2)]
    client = stage.clients["certificate"]
    opened = await client.rpc("initialize", {**INITIALIZE, "protocolVersion": "2025-03-26"})
    session = opened.headers["mcp-session-id"]
    for headers in ({}, {"x_mcp_certificate_name": "root"}):
        answer = await client.send(json.dumps(batch).encode(), mcp_session_id=session, **headers)
        assert sorted(one["id"] for one in json.loads(answer.body) if "result" in one) == [1, 2]


async def test_nobody_has_the_session_of_another_method(stage: Stage) -> None:
    alone = [
        ("key", "", "", ""),
        ("", "token", "", ""),
        ("", "token of another issuer", "", ""),
        ("", "password", "", ""),
        ("", "", "", "certificate"),
        *([("", "", "", "")] if stage.anonymous else []),
    ]
    for opening in alone:
        opened = await stage.clients[opening[-1]].rpc("initialize", INITIALIZE, **stage.headers(*opening[:3]))
        session = opened.headers["mcp-session-id"]
        for using in alone:
            client, headers = stage.clients[using[-1]], stage.headers(*using[:3])
            answer = await client.rpc("tools/list", mcp_session_id=session, **headers)
            assert answer.status == (200 if using == opening else 404), (opening, using)
