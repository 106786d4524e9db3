"""Keys and metadata of real authorization servers, fetched and served."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_extproc.address import UnixAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import KEYS_PATH, METADATA_PATH, issuer_key
from mcp_extproc.run import authorization_servers
from mcp_extproc.run.authorization_servers import (
    FETCH_SECONDS,
    RETRY_SECONDS,
    AuthorizationServers,
    metadata_urls,
    retry_after,
)
from mcp_extproc.run.process import StartError
from tests.support.authorization_server import AuthorizationServer, new_key, public_jwk
from tests.support.waiting import eventually

AUDIENCE = "https://gateway.example/mcp"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization_servers, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(authorization_servers, "FILE_SECONDS", 0.01)


class Stage:
    """The endpoint, as Envoy sees it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "keys.sock"
        self.servers = AuthorizationServers(UnixAddress(str(self.socket)))

    async def serve(self, *issuers: dict[str, Any], **oauth: Any) -> None:
        section = {"issuers": [{"audiences": [AUDIENCE], **one} for one in issuers], **oauth}
        await self.servers.serve(GatewayConfig.model_validate({
            "servers": {"a": {"url": "http://127.0.0.1:1/mcp"}},
            "authentication": {"oauth": section} if issuers else None,
        }))  # fmt: skip

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket))) as http:
            async with http.get(f"http://any{path}") as answer:
                return answer.status, json.loads(await answer.read())

    async def metadata(self, issuer: str) -> tuple[int, dict[str, Any]]:
        return await self.get(METADATA_PATH + issuer_key(issuer, ALGORITHMS))

    async def keys(self, issuer: str) -> set[str] | int:
        """Ids and algorithms, or the status."""
        status, data = await self.get(KEYS_PATH + issuer_key(issuer, ALGORITHMS))
        return status if status != 200 else {f"{key['kid']} {key['alg']}" for key in data["keys"]}


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    found = Stage(folder)
    try:
        yield found
    finally:
        await found.servers.stop()


@asynccontextmanager
async def serving(runner: web.BaseRunner) -> AsyncIterator[int]:
    """A server of a test's own at a port of this machine."""
    await runner.setup()
    try:
        await web.TCPSite(runner, "localhost", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


ALGORITHMS = ("RS256", "ES256", "EdDSA")
ALL = {"RS256 RS256", "ES256 ES256", "EdDSA EdDSA"}


async def test_keys_and_metadata_are_found(tmp_path: Path) -> None:
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        await running.serve({"issuer": idp.issuer})
        assert await running.keys(idp.issuer) == ALL
        assert running.socket.stat().st_mode & 0o777 == 0o600
        status, metadata = await running.metadata(idp.issuer)
        assert (status, metadata["token_endpoint"]) == (200, f"{idp.issuer}/token")
        assert (await running.get(KEYS_PATH + "other"))[0] == 503
    assert not running.socket.exists()


async def test_metadata_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What clients of 2025-03-26 are told is not frozen at the start."""
    monkeypatch.setattr(authorization_servers, "_wanted", often(authorization_servers._wanted))
    async with AuthorizationServer() as idp, AuthorizationServer() as other, stage(tmp_path) as running:
        await running.serve({"issuer": idp.issuer}, {"issuer": other.issuer})
        status, metadata = await running.metadata(idp.issuer)
        assert (status, metadata["token_endpoint"]) == (200, f"{idp.issuer}/token")
        idp.metadata = {"token_endpoint": f"{idp.issuer}/new"}
        await eventually(
            lambda: running.metadata(idp.issuer),
            "the new metadata is told",
            until=lambda told: told == (200, {**metadata, "token_endpoint": f"{idp.issuer}/new"}),
        )


async def test_an_issuer_that_is_down_is_tried_again_and_its_last_keys_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    idp = AuthorizationServer()
    with caplog.at_level(logging.INFO, "mcp_extproc.authentication"):
        async with stage(tmp_path) as running:
            await running.serve({"issuer": idp.issuer, "jwks": {"uri": f"{idp.issuer}/jwks", "refresh": 1}})
            assert await running.keys(idp.issuer) == 503
            assert (await running.metadata(idp.issuer))[0] == 503
            async with idp:
                await eventually(
                    lambda: running.keys(idp.issuer), "its keys are there", until=lambda found: found == ALL
                )
                del idp.keys["RS256"]
                await eventually(
                    lambda: running.keys(idp.issuer),
                    "they are others",
                    until=lambda found: found == ALL - {"RS256 RS256"},
                )
            asked = len(idp.asked)
            await eventually(lambda: said(caplog), "the log says so", until=lambda said: "the keys before stay" in said)
            assert await running.keys(idp.issuer) == ALL - {"RS256 RS256"}
            async with idp:
                await eventually(lambda: len(idp.asked) > asked, "it is asked again")
    # Each failure once, however often it is tried.
    assert {part: [one for one in found if "until then" in one] for part, found in effects(caplog).items()} == {
        "keys": ["its tokens are refused until then"],
        "metadata": ["clients do not get it from the gateway until then"],
    }


def test_a_dead_issuer_is_asked_at_least_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start of a request that takes all of its time to the start of the next one, and never at once."""
    monkeypatch.setattr(authorization_servers, "RETRY_SECONDS", RETRY_SECONDS)
    for refresh in (1.0, 300.0, 86400.0):
        pauses = [retry_after(failures, refresh) for failures in range(1, 1000)]
        assert max(pauses) + FETCH_SECONDS <= 10
        assert pauses == sorted(pauses)
        assert min(pauses) >= 1


async def test_metadata_that_is_down_refuses_no_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        idp.metadata = {"issuer": "https://other.example"}
        await running.serve({"issuer": idp.issuer, "jwks": {"uri": f"{idp.issuer}/jwks"}})
        assert await running.keys(idp.issuer) == ALL
        assert (await running.metadata(idp.issuer))[0] == 503
        assert effects(caplog) == {"metadata": ["clients do not get it from the gateway until then"]}


async def test_metadata_that_fails_once_the_keys_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization_servers, "_wanted", often(authorization_servers._wanted))
    with caplog.at_level(logging.INFO, "mcp_extproc.authentication"):
        async with AuthorizationServer() as idp, stage(tmp_path) as running:
            await running.serve({"issuer": idp.issuer})
            assert await running.keys(idp.issuer) == ALL
            idp.metadata = {"issuer": "https://other.example"}
            await eventually(lambda: effects(caplog), "the log says so", until=bool)
            asked = len(idp.asked)
            await eventually(lambda: len(idp.asked) > asked + 4, "it is asked again")
            assert effects(caplog) == {"metadata": ["the metadata before stay"]}
            assert await running.keys(idp.issuer) == ALL
            idp.metadata = {}
            await eventually(
                lambda: said(caplog), "the log says so", until=lambda said: "authorization_server_available" in said
            )


async def test_a_task_that_fails_is_logged_with_its_issuer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr(authorization_servers, "_served", broken)
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        await running.serve({"issuer": idp.issuer})
        await eventually(lambda: said(caplog), "the log says so", until=lambda said: "task_failed" in said)
        [failed] = [record for record in caplog.records if record.getMessage() == "task_failed"]
        fields = vars(failed)["mcp_fields"]
        assert (fields["issuer"], "server" in fields) == (idp.issuer, False)


async def test_metadata_of_another_issuer_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        idp.metadata = {"issuer": f"{idp.issuer}/"}
        await running.serve({"issuer": idp.issuer})
        assert await running.keys(idp.issuer) == 503
        assert (await running.metadata(idp.issuer))[0] == 503
        assert "of another issuer" in said(caplog)
        assert "/jwks" not in idp.asked


@pytest.mark.parametrize(
    ("jwks_uri", "why"),
    [
        ("http://10.0.0.1/jwks", "expected an https URL"),
        (7, "expected a URL"),
        (None, "has no jwks_uri"),
        ("https://a..b/jwks", "expected a URL"),
        ("https://xn--/jwks", "can't be reached"),
        (f"https://{'a.' * 200}b/jwks", "can't be reached"),
        (f"https://127.0.0.1:1/{'a' * 3000}", "at most 2048 characters"),
    ],
)
async def test_keys_come_from_a_safe_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, jwks_uri: object, why: str
) -> None:
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        idp.metadata = {"jwks_uri": jwks_uri}
        await running.serve({"issuer": idp.issuer})
        assert await running.keys(idp.issuer) == 503
        assert why in said(caplog)


async def test_what_an_authorization_server_sets_is_not_kept_and_passwords_of_other_programs_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password SECRET")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    heads: list[str] = []

    async def metadata(request: web.Request) -> web.Response:
        heads.append("\n".join(f"{name}: {value}".lower() for name, value in request.headers.items()))
        return web.json_response({}, headers={"set-cookie": "kept=1"})

    app = web.Application()
    app.router.add_get("/{any:.*}", metadata)
    async with serving(web.AppRunner(app)) as port, stage(tmp_path) as running:
        await running.serve({"issuer": f"http://localhost:{port}"})
        await eventually(lambda: len(heads) > 3, "it was asked again")
    assert not [head for head in heads if "cookie" in head or "authorization" in head]


async def test_a_proxy_of_the_environment_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        asked.append(f"{request.headers['host']} {request.headers.get('proxy-authorization')}")
        return web.Response(status=502)

    runner = web.ServerRunner(web.Server(proxy))
    async with AuthorizationServer() as idp, stage(tmp_path) as running, serving(runner) as port:
        monkeypatch.setenv("http_proxy", f"http://me:SECRET@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await running.serve({"issuer": "http://idp.localhost"}, {"issuer": idp.issuer})
        assert await running.keys(idp.issuer) == ALL
        await eventually(lambda: asked, "the proxy was asked", until=bool)
    assert set(asked) == {"idp.localhost Basic bWU6U0VDUkVU"}


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "jwks.json"
    issuer = "https://idp.example"

    def write(*names: str) -> None:
        file.write_text(json.dumps({"keys": [public_jwk(new_key("EdDSA"), name) for name in names]}))

    write("first")
    async with stage(tmp_path) as running:
        await running.serve({"issuer": issuer, "jwks": {"file": str(file)}})
        assert await running.keys(issuer) == {"first EdDSA"}
        write("second", "third")
        both = {"second EdDSA", "third EdDSA"}
        await eventually(lambda: running.keys(issuer), "the new keys", until=lambda found: found == both)
        for broken in ("{", '{"keys": []}'):
            caplog.clear()
            file.write_text(broken)
            await eventually(lambda: said(caplog), "the log says so", until=lambda said: "the keys before stay" in said)
            assert await running.keys(issuer) == both
        caplog.clear()
        file.unlink()
        await eventually(lambda: said(caplog), "the log says so", until=lambda said: "No such file" in said)
        assert await running.keys(issuer) == both


async def test_a_change_of_the_configuration(tmp_path: Path) -> None:
    inline = json.dumps({"keys": [public_jwk(new_key("ES256"), "given")]})
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        await running.serve()
        assert not running.socket.exists()
        await running.serve({"issuer": "https://other.example", "jwks": {"inline": inline}})
        assert await running.keys("https://other.example") == {"given ES256"}
        await running.serve({"issuer": idp.issuer}, {"issuer": "https://other.example", "jwks": {"inline": inline}})
        assert await running.keys(idp.issuer) == ALL
        asked = len(idp.asked)
        await running.serve({"issuer": idp.issuer})
        assert (await running.keys(idp.issuer), len(idp.asked)) == (ALL, asked)
        assert await running.keys("https://other.example") == 503
        await running.serve()
        assert await running.keys(idp.issuer) == 503


async def test_an_envoy_that_does_not_ask(tmp_path: Path) -> None:
    running = Stage(tmp_path)
    running.servers = AuthorizationServers(None)
    await running.serve({"issuer": "https://idp.example"})
    assert not running.socket.exists()
    await running.servers.stop()


async def test_answers_are_bounded_and_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        idp.metadata = {"filler": "x" * (1 << 20)}
        await running.serve({"issuer": idp.issuer})
        assert await running.keys(idp.issuer) == 503
        assert "larger than" in said(caplog)


async def test_who_asks_first_waits_for_the_first_answer(tmp_path: Path) -> None:
    """So an Envoy that starts has the keys when it begins to listen."""
    async with AuthorizationServer() as idp, stage(tmp_path) as running:
        await running.serve({"issuer": idp.issuer})
        found = await asyncio.gather(*(running.keys(idp.issuer) for _ in range(5)))
        assert found == [ALL] * 5


def test_where_metadata_may_be() -> None:
    """RFC 8414 section 3.1, OpenID Connect Discovery section 4."""
    assert metadata_urls("https://idp.example") == [
        "https://idp.example/.well-known/oauth-authorization-server",
        "https://idp.example/.well-known/openid-configuration",
    ]
    assert metadata_urls("https://idp.example/a/b/") == [
        "https://idp.example/.well-known/oauth-authorization-server/a/b",
        "https://idp.example/.well-known/openid-configuration/a/b",
        "https://idp.example/a/b/.well-known/openid-configuration",
    ]


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All events, with their fields."""
    return "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)


def effects(caplog: pytest.LogCaptureFixture) -> dict[str, list[str]]:
    """Of what is not available, by the part, in the order of the log."""
    found: dict[str, list[str]] = {}
    for record in caplog.records:
        if record.getMessage() == "authorization_server_unavailable":
            fields = vars(record)["mcp_fields"]
            found.setdefault(fields["part"], []).append(fields["effect"])
    return found


def often(wanted: Any) -> Any:
    """The same issuers, whose keys are looked for all the time."""
    return lambda config: [dataclasses.replace(one, refresh=0.01) for one in wanted(config)]


@pytest.mark.parametrize(
    ("issuer", "named", "is_safe"),
    [
        ("https://idp.example", "https://keys.example/jwks", True),
        ("https://idp.example", "http://127.0.0.1:8080/jwks", False),
        ("https://idp.example", "HTTP://localhost/jwks", False),
        ("http://localhost:1", "http://127.0.0.1:2/jwks", True),
        ("http://localhost:1", "https://keys.example/jwks", True),
    ],
)
def test_keys_of_an_issuer_elsewhere_are_not_looked_for_here(issuer: str, named: str, *, is_safe: bool) -> None:
    """Whoever listens at a port of this machine could sign for it."""
    metadata = json.dumps({"issuer": issuer, "jwks_uri": named}).encode()
    if is_safe:
        assert authorization_servers._checked(metadata, issuer, "url") == named
    else:
        with pytest.raises(authorization_servers.Unusable, match="expected an https URL"):
            authorization_servers._checked(metadata, issuer, "url")


async def test_a_start_that_fails_and_a_stop_that_is_cancelled_leave_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise warnings of what was not closed, which are errors in tests."""
    async with AuthorizationServer() as idp:
        refused = Stage(tmp_path / "not there")
        with pytest.raises(StartError):
            await refused.serve({"issuer": idp.issuer})
        await refused.servers.stop()
        broken = Stage(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(web.SockSite, "start", _fails)
            with pytest.raises(OSError, match="no site"):
                await broken.serve({"issuer": idp.issuer})
        assert not broken.socket.exists()
        running = Stage(tmp_path)
        await running.serve({"issuer": idp.issuer})
        http = running.servers._http
        stopping = asyncio.create_task(running.servers.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait({stopping})
        assert http is not None
        assert http.closed
        assert not running.socket.exists()


async def _fails(_: web.SockSite) -> None:
    raise OSError("no site")
