"""All methods in one gateway: every combination of what may be brought, and what becomes of it."""

from __future__ import annotations

import itertools
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509

from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import TestClient, TestGateway, access_log_entry
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
    gateway: TestGateway
    clients: Mapping[str, TestClient]
    """By certificate."""
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


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["named", "anonymous"])
async def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "keys.yaml").write_text(json.dumps({"by-key": KEY}))
    authority = Authority(folder)
    authority.issue("certificate", x509.UniformResourceIdentifier(CERTIFICATE))
    authority.issue("certificate without a name")
    async with AsyncExitStack() as stack:
        idps = [await stack.enter_async_context(AuthorizationServer(subject="by-token")) for _ in range(2)]
        alpha = await stack.enter_async_context(ScriptedServer("alpha"))
        callers = await stack.enter_async_context(Callers(judge).serving())
        issuers = [
            {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}} for idp in idps
        ]
        authentication = {
            "anonymous": request.param,
            "oauth": {"issuers": issuers},
            "api_keys": {"file": str(folder / "keys.yaml")},
            "external": {
                "grpc": f"127.0.0.1:{callers.grpc_port}",
                "timeout": "20s",  # whatever the machine is busy with
                "from": [{"header": "authorization"}, {"cookie": "session"}],
                "principal_header": "x-user",
            },
            "mtls": {"ca": str(authority.ca)},
        }
        tls = {"certificate": str(authority.certificate("server")), "key": str(authority.key("server"))}
        gateway = await stack.enter_async_context(
            start(folder, {"alpha": alpha.url}, listen={"tls": tls}, authentication=authentication)
        )
        clients = {}
        for name in CERTIFICATES:
            context = ssl.create_default_context(cafile=authority.ca)
            if name:
                context.load_cert_chain(authority.certificate(name), authority.key(name))
            connector = aiohttp.TCPConnector(ssl=context)
            http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            clients[name] = TestClient(gateway.url.replace("localhost", "127.0.0.1"), http)
        yield Stage(idps[0], idps[1], gateway, clients, request.param)


async def test_every_combination(stage: Stage) -> None:
    """Any method suffices, and what is brought and wrong is refused, whatever else is good. What a client says of itself
    counts for nothing."""
    spoofed = {"x_user": "root", "x_mcp_api_key_name": "root", "x_mcp_certificate_name": "root", "x_mcp_external": "1"}
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    combinations = list(itertools.product(KEYS, AUTHORIZATIONS, COOKIES, CERTIFICATES))
    for brought in combinations:
        *rest, certificate = brought
        agent = ", ".join(one or "none" for one in brought)
        headers = {**spoofed, **stage.headers(*rest), "user_agent": agent}
        answer = await stage.clients[certificate].rpc("initialize", INITIALIZE, **headers)
        if answer.status != 200:
            assert (answer.status, answer.error["data"]["status"]) == (401, 401), brought
            assert "resource_metadata=" in answer.headers["www-authenticate"], brought
            found[brought] = ("refused", answer.error["data"]["reason"])
            continue
        entry = await access_log_entry(stage.gateway.access_log, {"user_agent": agent})
        named = entry.get("enduser.id")
        found[brought] = (named, entry["mcp.principal.issuer"]) if named is not None else ("anonymous",)
    assert found == {brought: stage.expected(*brought) for brought in combinations}


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
