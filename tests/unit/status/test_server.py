"""The page's server: its files, what it streams, and who is told that somebody looks."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
from aiohttp import web

from mcp_extproc.status import relay, server
from mcp_extproc.status.guard import HEADERS, SELF_HEADER
from mcp_extproc.status.known import UNWATCHED, WATCHED, Known, Way
from mcp_extproc.status.server import StatusPage
from mcp_extproc.telemetry.collector import http_server
from mcp_extproc.telemetry.collector.spec import CollectorSpec, PageAt
from mcp_extproc.telemetry.collector.workers import Workers
from tests.support.tls import Authority
from tests.support.waiting import eventually
from tests.unit.telemetry.support import CALL

PAGE = Path(server.__file__).parent / "page"


def known(*ways: Way) -> Known:
    return Known(
        version="1", started=1.0, file="gateway.yaml", command="run", ways=[*ways], servers=[], asked=None, given="a: b\n",
        effective="a: b\n", workers=1,
    )  # fmt: skip


class Served:
    """A page that is served, and who uses it."""

    def __init__(self, page: StatusPage, url: str, http: aiohttp.ClientSession, told: list[bytes]) -> None:
        self.page = page
        self.url = url
        self.http = http
        self.told = told

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.http.get(f"{self.url}/{path}", headers=headers) as response:
            for name, value in HEADERS.items():
                assert response.headers[name] == value
            assert not any(name.lower().startswith("access-control") for name in response.headers)
            return response.status, await response.text()


@asynccontextmanager
async def serving(*, has_metrics: bool = False, metrics_address: str | None = None) -> AsyncIterator[Served]:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    at = PageAt(listening.detach(), has_metrics=has_metrics, records_on_demand=False)
    told: list[bytes] = []
    page = StatusPage(
        CollectorSpec(listen="unix:/nowhere", resource={}, page=at, metrics_address=metrics_address), told.append
    )

    async def metrics() -> bytes:
        return b"mcp_gateway_requests_total 1\n"

    await page.start(metrics if has_metrics else None, Workers(lambda report: None, time.time))
    try:
        async with aiohttp.ClientSession() as http:
            yield Served(page, url, http, told)
    finally:
        await page.stop()


async def events(response: aiohttp.ClientResponse, last: str) -> list[tuple[str, Any]]:
    """Events up to the first one of a kind."""
    found = []
    while True:
        name = (await response.content.readline()).decode().strip().removeprefix("event: ")
        data = msgspec.json.decode((await response.content.readline()).removeprefix(b"data: "))
        await response.content.readline()
        found.append((name, data))
        if name == last:
            return found


async def test_its_files() -> None:
    async with serving() as served:
        status, text = await served.get("")
        assert status == 200
        for name in re.findall(r'(?:src|href)="([a-z-]+\.[a-z]+)"', text):
            assert (await served.get(name))[0] == 200
        for path in PAGE.glob("*.js"):
            status, text = await served.get(path.name)
            assert status == 200
            for name in re.findall(r'from "\./([a-z]+\.js)"', text):
                assert (PAGE / name).exists()
        assert (await served.get("../server.py"))[0] == 404
        assert (await served.get("nothing"))[0] == 404
        assert await served.get("metrics") == (404, "Metrics are off: telemetry.metrics turns them on.\n")


async def test_metrics_are_there_if_they_are_on() -> None:
    async with serving(has_metrics=True) as served:
        assert await served.get("metrics") == (200, "mcp_gateway_requests_total 1\n")


async def test_where_metrics_are_instead() -> None:
    async with serving(metrics_address="127.0.0.1:9464") as served:
        status, said = await served.get("metrics")
        assert (status, said) == (404, "Metrics are at http://127.0.0.1:9464/metrics (telemetry.metrics.address).\n")


async def test_what_it_streams() -> None:
    async with serving() as served:
        served.page.learn(msgspec.json.encode(known()))
        served.page.show(CALL)
        async with served.http.get(f"{served.url}/events") as response:
            assert response.headers["x-accel-buffering"] == "no"  # nginx in front would keep the end of each burst
            found = await events(response, "state")
            assert [name for name, _ in found] == ["known", "begin", "calls", "state"]
            assert found[0][1]["file"] == "gateway.yaml"
            assert found[2][1][0]["what"] == "add"
            served.page.show(CALL)
            [*_, (_, [latest])] = await events(response, "calls")
            assert latest["n"] == 2
        assert msgspec.json.decode((await served.get("state"))[1])["calls"][1] == latest


async def test_who_looks_once_sees_what_the_supervisor_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request may have started the process, and be there first."""
    monkeypatch.setattr(server, "TOLD_SECONDS", 60.0)
    async with serving() as served:
        asked = asyncio.create_task(served.get("state"))
        waiting = served.page._is_told.__dict__["_waiters"]
        await eventually(lambda: asked.done() or waiting, "it is asked")
        served.page.learn(msgspec.json.encode(known()))
        assert msgspec.json.decode((await asked)[1])["known"]["file"] == "gateway.yaml"


async def test_the_supervisor_is_told_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 0.01)
    async with serving() as served:
        await served.get("state")
        assert served.told == []
        async with served.http.get(f"{served.url}/events"), served.http.get(f"{served.url}/events"):
            await eventually(lambda: served.told == [WATCHED], "it is told")
        await eventually(lambda: served.told == [WATCHED, UNWATCHED], "it is told")


async def test_only_so_many_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_WATCHERS", 1)
    async with serving() as served, served.http.get(f"{served.url}/events"):
        assert (await served.get("events"))[0] == 503


@pytest.mark.parametrize("path", ["", "events", "state", "metrics", "main.js", "nothing"])
async def test_strangers_get_nothing(path: str) -> None:
    async with serving(has_metrics=True) as served:
        assert (await served.get(path, host="evil.example"))[0] == 403
        assert (await served.get(path, origin="http://evil.example"))[0] == 403


@asynccontextmanager
async def endpoint(
    certificates: ssl.SSLContext | None = None, trusted: Path | None = None
) -> AsyncIterator[tuple[Way, list[tuple[Mapping[str, str], str]]]]:
    """An endpoint of a gateway, and what it was asked: headers and bodies."""
    asked: list[tuple[Mapping[str, str], str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.headers, await request.text()))
        headers = {"mcp-session-id": "s", "set-cookie": "a=b", "access-control-allow-origin": "*"}
        return web.Response(text="{}", content_type="application/json", headers=headers)

    application = web.Application()
    application.router.add_route("*", "/mcp", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates).start()
    port = runner.addresses[0][1]
    way = Way(
        name="", url=f"http{'s' * (trusted is not None)}://tools.example:{port}/mcp", headers={"x-team": "a"},
        is_reachable=True, needs=[], key_header=None, host="127.0.0.1", port=port,
        certificate=None if trusted is None else str(trusted),
    )  # fmt: skip
    try:
        yield way, asked
    finally:
        await runner.cleanup()


async def test_a_request_goes_on_as_it_is() -> None:
    async with serving() as served, endpoint() as (way, asked):
        served.page.learn(msgspec.json.encode(known(way)))
        headers = {
            SELF_HEADER: "authorization, mcp-session-id, cookie, host", "authorization": "Bearer t", "mcp-session-id": "s",
            "origin": served.url, "cookie": "c=d", "accept": "application/json", "x-other": "no",
            "content-type": "application/json",
        }  # fmt: skip
        async with served.http.post(f"{served.url}/relay/", data=b'{"a":1}', headers=headers) as response:
            assert (response.status, await response.text()) == (200, "{}")
            assert response.headers["mcp-session-id"] == "s"
            assert not {"set-cookie", "access-control-allow-origin"} & {name.lower() for name in response.headers}
    [(got, body)] = asked
    assert body == '{"a":1}'
    assert {name.lower(): value for name, value in got.items()} == {
        "host": way.url.split("/")[2], "authorization": "Bearer t", "mcp-session-id": "s", "accept": "application/json",
        "content-type": "application/json", "x-team": "a", "content-length": "7",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({SELF_HEADER: "", "origin": "http://evil.example"}, 403),
        ({"origin": "SELF"}, 403),
        ({SELF_HEADER: "", "host": "evil.example", "origin": "http://evil.example"}, 403),
        ({SELF_HEADER: "", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({SELF_HEADER: "", "origin": "SELF"}, 200),
    ],
)
async def test_nobody_else_may_have_it_pass_anything_on(headers: dict[str, str], status: int) -> None:
    async with serving() as served, endpoint() as (way, asked):
        served.page.learn(msgspec.json.encode(known(way)))
        headers = {name: value.replace("SELF", served.url) for name, value in headers.items()}
        async with served.http.post(f"{served.url}/relay/", data=b"{}", headers=headers) as response:
            assert response.status == status
        async with served.http.options(f"{served.url}/relay/", headers=headers) as response:
            assert response.status in (403, 405)
            assert "access-control-allow-headers" not in response.headers
    assert len(asked) == (status == 200)


async def test_attack_what_is_shown_is_not_made_for_each_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as served:
        monkeypatch.setattr(server, "SHOWN_SECONDS", 60.0)
        before = await served.get("state")
        served.page.show(CALL)
        assert await served.get("state") == before
        monkeypatch.setattr(server, "SHOWN_SECONDS", 0.0)
        assert len(msgspec.json.decode((await served.get("state"))[1])["calls"]) == 1


async def test_attack_bodies_that_never_come_keep_nobody_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its part of what can be held."""
    monkeypatch.setattr(relay, "MAX_HELD_BYTES", 10)
    monkeypatch.setattr(relay, "UPLOAD_SECONDS", 0.05)
    async with serving() as served, endpoint() as (way, asked):
        served.page.learn(msgspec.json.encode(known(way)))
        address = urlsplit(served.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST /relay/ HTTP/1.1\r\nhost: localhost\r\nx-status-page: a\r\ncontent-length: 10\r\n\r\n{")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        async with served.http.post(f"{served.url}/relay/", data=b"{}", headers={SELF_HEADER: ""}) as response:
            assert response.status == 200
        writer.close()
    assert len(asked) == 1


@pytest.mark.parametrize(("trusted", "status"), [("server", 200), ("client", 502)])
async def test_only_the_certificate_of_the_listener_is_trusted(tmp_path: Path, trusted: str, status: int) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("server"), authority.key("server"))
    async with serving() as served, endpoint(context, authority.certificate(trusted)) as (way, asked):
        served.page.learn(msgspec.json.encode(known(way)))
        headers = {SELF_HEADER: "authorization", "authorization": "Bearer t"}
        async with served.http.post(f"{served.url}/relay/", data=b"{}", headers=headers) as response:
            assert response.status == status
    assert len(asked) == (status == 200)


async def test_what_is_held_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_HELD_BYTES", 10)
    async with serving() as served, endpoint() as (way, asked):
        served.page.learn(msgspec.json.encode(known(way)))
        headers = {SELF_HEADER: ""}

        async def pieces() -> AsyncIterator[bytes]:
            yield b"x"

        for body, status in ((b"x" * 11, 503), (pieces(), 411), (b"x" * 10, 200), (b"x" * 10, 200)):
            async with served.http.post(f"{served.url}/relay/", data=body, headers=headers) as response:
                assert response.status == status
    assert len(asked) == 2


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors and memory are the audit's, too."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    async with serving() as served, asyncio.TaskGroup() as group:
        port = int(served.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        ended = [group.create_task(reader.read(1)) for reader, _ in silent]
        await eventually(
            lambda: sum(task.done() for task in ended), "too many are closed", until=lambda number: number == 7
        )
        for _, writer in silent:
            writer.close()
        await eventually(lambda: all(task.done() for task in ended), "the others are closed")
        assert (await served.get("state"))[0] == 200


async def test_who_reads_nothing_is_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.05)
    monkeypatch.setattr(server, "TURN_SECONDS", 0.0)
    async with serving() as served:
        served.page.learn(msgspec.json.encode(msgspec.structs.replace(known(), given="x" * (32 << 20))))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read(1)
        await eventually(lambda: served.page._watchers == 0, "it is taken for gone")
        writer.close()


async def test_what_many_look_at_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SHOWN_SECONDS", 3600.0)
    async with serving() as served:
        served.page.show(CALL)
        texts = {(await served.get("state"))[1] for _ in range(3)}
        assert len(texts) == 1
        served.page.learn(msgspec.json.encode(known()))
        assert (await served.get("state"))[1] not in texts


async def test_nothing_is_passed_on_to_other_places() -> None:
    async with serving() as served:
        headers = {SELF_HEADER: ""}
        async with served.http.post(f"{served.url}/relay/http://10.0.0.1/", data=b"{}", headers=headers) as response:
            assert response.status == 404
        gone = Way(
            name="", url="http://localhost:1/mcp", headers={}, is_reachable=True, needs=[], key_header=None,
            host="127.0.0.1", port=1, certificate=None,
        )  # fmt: skip
        served.page.learn(msgspec.json.encode(known(gone)))
        async with served.http.post(f"{served.url}/relay/", data=b"{}", headers=headers) as response:
            assert response.status == 502
            assert "does not answer at 127.0.0.1:1" in await response.text()


async def test_an_endpoint_that_nobody_can_name_is_not_called() -> None:
    async with serving() as served, endpoint() as (way, asked):
        served.page.learn(msgspec.json.encode(known(msgspec.structs.replace(way, is_reachable=False))))
        async with served.http.post(f"{served.url}/relay/", data=b"{}", headers={SELF_HEADER: ""}) as response:
            assert response.status == 404
    assert asked == []


async def test_whoever_leaves_is_forgotten() -> None:
    async with serving() as served:
        async with served.http.get(f"{served.url}/events") as response:
            await events(response, "state")
            assert served.page._watchers == 1
        await eventually(lambda: served.page._watchers == 0, "it has left")
