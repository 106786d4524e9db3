"""The exchange of a caller's token, at a real token endpoint, without Envoy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.contract import FAILURE_HEADER, SERVER_HEADER
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.request import RequestContext, Subject
from mcp_extproc.gateway.tokens import Granted, Tokens
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.upstreams import token_exchange
from mcp_extproc.upstreams.client import CredentialsRefused, UpstreamClient, UpstreamError
from mcp_extproc.upstreams.private_listener import http_session
from mcp_extproc.upstreams.token_exchange import Exchanges, NotExchanged
from tests.support.authorization_server import AuthorizationServer, new_key
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer, raw
from tests.support.token_server import ACCESS_TOKEN, CLIENT, TOKEN_EXCHANGE, TokenServer
from tests.support.waiting import PATIENCE
from tests.unit.gateway.support import LATEST, NOW, catalog_of, config
from tests.unit.upstreams.fake_client import Told

SECRET = "planted & secret: 9fA1"
ISSUER = AuthorizationServer(keys={"ES256": new_key("ES256")})


def entry(path: str = "/token", **more: Any) -> CatalogEntry:
    client = {
        "token_endpoint": f"https://idp.example{path}",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "audience": "github",
        "scopes": ["repo", "user"],
        **more,
    }
    authentication = {"oauth": {"resource": ISSUER.audience, "issuers": [{"issuer": ISSUER.issuer}]}}
    servers = {"a": {"credentials": {"token_exchange": client}}}
    return catalog_of(config(servers, authentication=authentication)).entries["a"]


def subject(name: str = "alice", **claims: Any) -> Subject:
    return Subject(f"key of {name}", ISSUER.token("ES256", sub=name, **claims))


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def asking(
    port: int, clock: Clock | None = None, observer: Observer = UNOBSERVED
) -> AsyncIterator[Callable[..., Awaitable[Granted]]]:
    """Get a token, with what asks as the worker does, and no Envoy in between."""
    http, base = http_session(TcpAddress("127.0.0.1", port))
    exchanges = Exchanges(Tokens(), clock or Clock(), observer)

    async def token(whose: Subject, at: CatalogEntry | None = None) -> Granted:
        return await exchanges.token(http, base, at or entry(), whose)

    async with http:
        yield token
        await exchanges.close()


def value(granted: Granted) -> str:
    [(name, value)] = granted.headers
    assert name == "authorization"
    scheme, _, token = value.partition(" ")
    assert scheme == "Bearer"
    return token


@pytest.mark.parametrize("basic", [False, True])
async def test_a_token_is_exchanged(basic: bool) -> None:
    async with TokenServer(SECRET, ISSUER, ("github",)) as server, asking(server.port) as token:
        whose = subject()
        got = value(await token(whose, entry(basic=basic, resource="https://a.example/mcp")))
        assert server.issued[got] == ("alice", "github", "repo user")
        client = {} if basic else {"client_id": CLIENT, "client_secret": SECRET}
        assert server.asked == [{
            "grant_type": TOKEN_EXCHANGE, "subject_token": whose.token, "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN, "audience": "github", "resource": "https://a.example/mcp",
            "scope": "repo user", **client,
        }]  # fmt: skip


async def test_it_is_asked_for_once_and_kept() -> None:
    """By all who wait for it at once, and by whoever comes until shortly before it expires. Others have their own."""
    clock = Clock()
    async with TokenServer(SECRET, ISSUER, ("github",)) as server, asking(server.port, clock) as token:
        first = await asyncio.gather(*(token(subject(name)) for name in ("alice", "bob") for _ in range(20)))
        assert len(server.asked) == 2
        hers, his = value(first[0]), value(first[-1])
        assert [value(one) for one in first] == [hers] * 20 + [his] * 20
        assert (server.issued[hers].subject, server.issued[his].subject) == ("alice", "bob")
        clock.now = NOW + 3600 - 30 - 1
        assert value(await token(subject())) == hers
        clock.now += 1
        assert value(await token(subject())) != hers
        assert len(server.asked) == 3


async def test_who_goes_away_does_not_fail_the_others() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        asked.set()
        await go_on.wait()
        return web.json_response({"access_token": "t", "token_type": "bearer"})

    async with answering(slowly) as token:
        first, second = (asyncio.ensure_future(token(subject())) for _ in range(2))
        await asked.wait()
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        assert value(await second) == "t"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 54), (10, 9), ("600", 570), (True, 54), (-1, 54), (0, 0), ("9" * 400, 3570), (10**9, 3570)],
)
async def test_how_long_it_is_good(said: object, seconds: float) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        lifetime = {} if said is None else {"expires_in": said}
        return web.json_response({"access_token": "t", "token_type": "BEARER", **lifetime})

    async with answering(endpoint) as token:
        assert (await token(subject())).until == NOW + seconds


async def test_what_a_server_refuses_is_got_anew() -> None:
    """By whoever sends the gateway's own requests. They have the token of the request that has one already."""
    store, whose, at, session = Tokens(), subject(), entry(), UpstreamSession(LATEST, "id", frozenset())
    carried = {"a": (("authorization", "Bearer of the call"),)}
    limits = config().limits
    async with ScriptedServer(sessions={"id"}, on={"ping": raw(401, "text/plain", "")}) as server:
        async with UpstreamClient(TcpAddress("127.0.0.1", server.port), limits, tokens=store) as client:
            now = time.time()
            for context, since in (
                (RequestContext(subject=whose), now - 60),
                (RequestContext(subject=whose), now - 5),
                (RequestContext(subject=whose, carried=carried), now - 5),
            ):
                store.keep(whose, "a", Granted((("authorization", "Bearer hers"),), since, now + PATIENCE))
                with pytest.raises(CredentialsRefused):
                    await client.request(at, session, "ping", {}, context=context)
                assert (store.current(whose, "a", now) is None) == (since == now - 60)
            assert [request.headers["authorization"] for request in server.received] == [
                "Bearer hers", "Bearer hers", "Bearer of the call",
            ]  # fmt: skip
            with pytest.raises(UpstreamError, match="this caller has none that was verified"):
                await client.request(at, session, "ping", {})


# -- Why there is none ----------------------------------------------------------------------------------------------------


async def failure(token: Awaitable[Granted]) -> str:
    with pytest.raises(NotExchanged) as caught:
        await token
    said = str(caught.value)
    start = "was not asked: the token_endpoint of credentials.token_exchange gave no token for the caller's, it "
    assert said.startswith(start)
    return said.removeprefix(start)


async def test_the_token_endpoint_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its words, without what it was sent."""
    monkeypatch.setattr(token_exchange, "_FAILED_SECONDS", 0)
    async with TokenServer(SECRET, ISSUER, ("github",), refuses="mallory") as server, asking(server.port) as token:
        assert await failure(token(subject(), entry(audience="jira"))) == (
            "answered HTTP 400, invalid_target: no such audience"
        )
        assert await failure(token(subject(aud="https://another.example"))) == (
            "answered HTTP 400, invalid_request: subject_token is not valid"
        )
        assert await failure(token(subject("mallory"))) == (
            "answered HTTP 400, invalid_request: the token [redacted] is not exchanged"
        )
        wrong = entry(client_secret="another-secret-9fA1")
        assert "invalid_client" in await failure(token(subject(), wrong))
        assert value(await token(subject()))


async def test_it_is_not_asked_at_once_again_for_what_it_refuses() -> None:
    """For the same caller and server; each call that fails would cost a request for a token."""
    clock, told = Clock(), Told()
    async with (
        TokenServer(SECRET, ISSUER, ("github",), refuses="mallory") as server,
        asking(server.port, clock, told) as token,
    ):
        said = [await failure(token(subject("mallory"))) for _ in range(3)]
        assert said == ["answered HTTP 400, invalid_request: the token [redacted] is not exchanged"] * 3
        assert len(server.asked) == 1
        assert value(await token(subject()))
        clock.now += 1
        assert await failure(token(subject("mallory"))) == said[0]
        assert len(server.asked) == 3
    assert [(each.server, each.endpoint, each.error_type) for each in told.exchanges] == [
        ("a", ("idp.example", None), "400"),
        ("a", ("idp.example", None), None),
        ("a", ("idp.example", None), "400"),
    ]


@asynccontextmanager
async def answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[Callable[..., Awaitable[Granted]]]:
    """A token endpoint that is none."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with asking(runner.addresses[0][1]) as token:
        yield token
    await runner.cleanup()


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"status": 503, "text": "closed"}, "answered HTTP 503"),
        ({"status": 302, "headers": {"location": "/elsewhere"}}, "answered HTTP 302"),
        ({"text": "<html>"}, "answered without an access_token that can be sent"),
        ({"text": "[]"}, "answered without an access_token that can be sent"),
        (
            {"text": '{"access_token": "a b", "token_type": "Bearer"}'},
            "answered without an access_token that can be sent",
        ),
        (
            {"text": '{"access_token": "t", "token_type": "N_A"}'},
            "answered with a token whose token_type is not Bearer",
        ),
        ({"text": " " * 65537}, "answered with more than 65536 bytes"),
        ({"status": 400, "text": '{"error": "a\\nb", "error_description": 7}'}, "answered HTTP 400, a\\nb"),
        ({"status": 503, "headers": {FAILURE_HEADER: "NoHealthyUpstream"}}, "is unreachable (NoHealthyUpstream)"),
    ],
)
async def test_answers_that_have_none(response: dict[str, Any], why: str) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return web.Response(**response)

    async with answering(endpoint) as token:
        assert await failure(token(subject())) == why


async def test_an_endpoint_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_exchange, "SECONDS", 0.01)

    async def endpoint(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with answering(endpoint) as token:
        assert await failure(token(subject())) == "did not answer within 0.01 s"


async def test_where_it_goes() -> None:
    """To the private listener, whose route it names, with the path and query of the token endpoint."""
    got: list[tuple[str, str]] = []

    async def endpoint(request: web.Request) -> web.Response:
        got.append((request.headers[SERVER_HEADER], request.raw_path))
        return web.json_response({"access_token": "t", "token_type": "Bearer"})

    async with answering(endpoint) as token:
        await token(subject(), entry("/realms/a%20b/token?tenant=1"))
        assert got == [("a/token", "/realms/a%20b/token?tenant=1")]


async def test_nobody_answers() -> None:
    async with asking(free_port()) as token:
        assert await failure(token(subject())) == "could not be asked (ClientConnectorError)"
