"""Client certificates: who a certificate names, and who is refused."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509

from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestClient, TestGateway, access_log_entry
from tests.support.gateway import gateway as start
from tests.support.scripted import ScriptedServer
from tests.support.streaming import calling, reply
from tests.support.tls import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
KEY = "alice-" + "a" * 20
ALICE, BOB = "spiffe://example/alice", "spiffe://example/bob"
URI, DNS, MAIL = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name

CERTIFICATES: Mapping[str, tuple[x509.GeneralName, ...]] = {
    "alice": (URI(ALICE), DNS("alice.example"), MAIL("alice@example.com")),
    "bob": (URI(BOB),),
    "several": (URI(ALICE), URI(BOB), DNS("a.example"), DNS("b.example"), MAIL("a@example.com"), MAIL("b@example.com")),
    "comma": (URI(f"{ALICE},{BOB}"),),
    "dash": (URI("-"),),
    "none": (),
}


@dataclass
class Stage:
    authority: Authority
    gateway: TestGateway
    idp: AuthorizationServer

    @asynccontextmanager
    async def client(self, name: str | None, authority: Authority | None = None) -> AsyncIterator[TestClient]:
        """Of the gateway, with a certificate or without."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        if name is not None:
            issuer = authority or self.authority
            context.load_cert_chain(issuer.certificate(name), issuer.key(name))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            yield TestClient(self.gateway.url.replace("localhost", "127.0.0.1"), http)

    async def tried(self, name: str | None, **headers: str) -> Answer:
        async with self.client(name) as client:
            return await client.rpc("initialize", INITIALIZE, **headers)

    async def who(self, name: str | None, **headers: str) -> tuple[str | None, str | None]:
        """Whose request it is, by the access log."""
        agent = f"{name} {sorted(headers)} {id(object())}"
        answer = await self.tried(name, user_agent=agent, **headers)
        assert answer.status == 200, answer.body
        entry = await access_log_entry(self.gateway.access_log, {"user_agent": agent})
        return entry.get("enduser.id"), entry.get("mcp.principal.issuer")


@asynccontextmanager
async def running(folder: Path, **authentication: Any) -> AsyncIterator[Stage]:
    authority = Authority(folder)
    for name, names in CERTIFICATES.items():
        authority.issue(name, *names)
    async with AuthorizationServer() as idp, ScriptedServer("alpha") as alpha:
        if "oauth" in authentication:
            jwks = {"uri": f"{idp.issuer}/jwks"}
            issuers = [{"issuer": idp.issuer, "audiences": [idp.audience], "jwks": jwks}]
            authentication["oauth"] = {"issuers": issuers}
        tls = {"certificate": str(authority.certificate("server")), "key": str(authority.key("server"))}
        mtls = {"ca": str(authority.ca), **authentication.pop("mtls", {})}
        async with start(
            folder,
            {"alpha": alpha.url},
            listen={"tls": tls},
            authentication={"mtls": mtls, **authentication},
            vetting=[{"tools": ["delete"]}],
        ) as gateway:
            yield Stage(authority, gateway, idp)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    keys = folder / "keys.yaml"
    keys.write_text(json.dumps({"alice": KEY}))
    async with running(folder, oauth=True, api_keys={"file": str(keys)}) as found:
        yield found


async def test_a_certificate_names_its_owner(stage: Stage) -> None:
    assert await stage.who("alice") == (ALICE, "mtls")
    assert await stage.who("bob") == (BOB, "mtls")
    assert await stage.who("bob", x_mcp_certificate_name=ALICE) == (BOB, "mtls")


@pytest.mark.parametrize("name", [None, "several", "comma", "dash", "none"])
async def test_who_is_named_by_no_certificate_is_refused(stage: Stage, name: str | None) -> None:
    """Two names are none: they are joined by a comma, which may be in a name, too."""
    for headers in ({}, {"x_mcp_certificate_name": ALICE}):
        answer = await stage.tried(name, **headers)
        assert (answer.status, answer.error["data"]["reason"]) == (401, "authentication_required")
        assert "resource_metadata=" in answer.headers["www-authenticate"]
    assert await stage.who(name, x_api_key=KEY) == ("alice", "api_keys"), "another method does"


async def test_a_certificate_of_another_authority_ends_the_handshake(stage: Stage, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    other.issue("alice", URI(ALICE))
    async with stage.client("alice", other) as client:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await client.rpc("initialize", INITIALIZE)


async def test_other_methods_beside(stage: Stage) -> None:
    """What is brought and wrong is refused. A key counts before a token, and that before a certificate."""
    token = f"Bearer {stage.idp.token()}"
    for headers in ({"x_api_key": "x" * 20}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}):
        assert (await stage.tried("alice", **headers)).status == 401
    assert await stage.who("bob", authorization=token) == ("alice", stage.idp.issuer)
    assert await stage.who("bob", authorization=token, x_api_key=KEY) == ("alice", "api_keys")


async def test_a_session_belongs_to_the_name(stage: Stage) -> None:
    session = (await stage.tried("alice")).headers["mcp-session-id"]
    for name, status in (("alice", 200), ("bob", 404), (None, 401)):
        async with stage.client(name) as client:
            assert (await client.rpc("tools/list", mcp_session_id=session)).status == status


async def test_messages_of_a_batch_have_the_certificates_name(stage: Stage) -> None:
    """They come to Envoy from a worker, without a certificate; what a client writes into the header is nothing."""
    pings = json.dumps([{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in (1, 2)]).encode()
    async with stage.client("alice") as client:
        opened = await client.rpc("initialize", {**INITIALIZE, "protocolVersion": "2025-03-26"})
        session = opened.headers["mcp-session-id"]
        for headers in ({}, {"x_mcp_certificate_name": BOB}):
            answer = await client.send(pings, mcp_session_id=session, **headers)
            assert json.loads(answer.body) == [{"jsonrpc": "2.0", "id": id, "result": {}} for id in (1, 2)]


async def test_a_call_that_its_user_consents_to_has_the_certificates_name(stage: Stage) -> None:
    """It passes Envoy once more, from a worker."""
    async with stage.client("alice") as client:
        opened = await client.rpc("initialize", {**INITIALIZE, "capabilities": {"elicitation": {}}})
        session = opened.headers["mcp-session-id"]
        async with calling(client, session, "alpha__delete") as events:
            question = await events.message()
            await reply(client, session, question["id"], result={"action": "accept"})
            [answer] = await events.rest()
    assert "result" in answer, answer


@pytest.mark.parametrize(
    ("principal", "named", "unnamed"),
    [
        ("san_dns", "alice.example", ["bob", "several", "none"]),
        ("san_email", "alice@example.com", ["bob", "several", "none"]),
        ("subject", "CN=alice", []),
    ],
)
async def test_other_names(tmp_path: Path, principal: str, named: str, unnamed: list[str]) -> None:
    async with running(tmp_path, mtls={"principal": principal}) as found:
        assert await found.who("alice") == (named, "mtls")
        for name in [None, *unnamed]:
            answer = await found.tried(name)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Mutual"), name


async def test_anonymous_beside_certificates(tmp_path: Path) -> None:
    """Who brings none may call, and who brings one that names nobody may not."""
    async with running(tmp_path, anonymous=True) as found:
        assert await found.who(None, x_mcp_certificate_name=ALICE) == (None, None)
        assert await found.who("alice") == (ALICE, "mtls")
        for name in ("several", "none"):
            assert (await found.tried(name)).status == 401
        assert (await found.tried(None, authorization="Bearer x")).status == 401
