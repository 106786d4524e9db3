"""What a release sealed is served by the next one, and two that run side by side serve each other's sessions.

``make fleet LAST=v0.2.0`` runs this file with a release in the place of one of the two.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import StartGateway
from tests.releases import sealed
from tests.support import gateway as support
from tests.support.gateway import TestClient, TestGateway
from tests.support.processes import ROOT
from tests.support.run_command import RUN, announced, piped, write
from tests.support.streaming import StreamingServer, calling, listen, reply
from tests.support.waiting import eventually

THIS = str(ROOT)
LAST = os.environ.get("MCP_EXTPROC_LAST_RELEASE", THIS)
"""The folder with the package of the last release."""

OLD, NEW = "the secret that was there before all", "the secret that takes the place of it"
OK = {"content": [{"type": "text", "text": "done"}]}


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: they end its workers."""
    return start_own


async def serves(sealing: TestClient, opening: TestClient, alpha: StreamingServer) -> None:
    """Assert that all that one gateway hands out is good at the other: a session, an id, a progress token, an event id."""
    session = await sealing.initialize(capabilities={"sampling": {}})
    assert (await opening.call(session, "alpha__echo")).result
    async with calling(sealing, session, "alpha__stream", id=7, meta={"progressToken": 3}) as events:
        channel = await alpha.called()
        await channel.ask(
            "1", "sampling/createMessage", {"messages": [], "maxTokens": 1, "_meta": {"progressToken": 5}}
        )
        asked = await events.message()
        last = events.last_id
    await channel.left()
    await answered(opening, session, asked, alpha)
    await channel.tell("notifications/progress", {"progressToken": 3, "progress": 1})
    async with listen(opening, session, last) as rest:
        assert await alpha.opened() is channel
        assert (await rest.message())["params"] == {"progressToken": 3, "progress": 1}
        await channel.answer(result=OK)
        assert await rest.rest() == [{"jsonrpc": "2.0", "id": 7, "result": OK}]


async def answered(client: TestClient, session: str, asked: dict[str, Any], alpha: StreamingServer) -> None:
    """Assert that the server that asked gets progress and an answer, under its own token and id."""
    before = len(alpha.answers), len(alpha.calls("notifications/progress"))
    progress = {"progressToken": asked["params"]["_meta"]["progressToken"], "progress": 1}
    told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
    assert (await client.send(json.dumps(told).encode(), mcp_session_id=session)).status == 202
    assert (await reply(client, session, asked["id"], result={"role": "assistant"})).status == 202
    assert (await alpha.answered(before[0] + 1))[-1].message["id"] == "1"
    reports = await alpha.until(lambda: alpha.calls("notifications/progress")[before[1] :])
    assert reports[-1].message["params"]["progressToken"] == 5


# -- Released values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotated", [False, True], ids=["current", "previous"])
@pytest.mark.parametrize("release", sealed.releases())
async def test_what_a_release_sealed_is_served(start: StartGateway, release: str, rotated: bool) -> None:
    was = sealed.read(release)
    session, upstream = was["sessions"][0]["sealed"], was["sessions"][0]["is"]["upstreams"]["alpha"]["id"]
    secrets = {"secret": NEW, "previous_secrets": [was["secret"]]} if rotated else {"secret": was["secret"]}
    async with (
        StreamingServer("alpha", keeps_events=True) as alpha,
        start({"alpha": alpha.url}, session=secrets) as gateway,
    ):
        alpha.sessions.add(upstream)
        assert (await gateway.call(session, "alpha__echo")).result
        async with calling(gateway, session, "alpha__stream", id=7) as events:
            channel = await alpha.called()
            await channel.log("seen")
            await events.message()
        await channel.left()
        async with listen(gateway, session, was["event_of_call"]["sealed"]) as rest:
            assert await alpha.opened() is channel
            assert alpha.gets[-1].headers["last-event-id"] == was["event_of_call"]["is"]["cursors"][0]["event_id"]
            await channel.answer(result=OK)
            assert await rest.rest() == [{"jsonrpc": "2.0", "id": 7, "result": OK}]
        await reply(gateway, session, was["request"]["sealed"], result={"roots": []})
        [post] = await alpha.answered()
        assert (post.message["id"], post.headers["mcp-session-id"]) == ("1", upstream)
        progress = {"progressToken": was["progress"]["sealed"], "progress": 1}
        told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
        await gateway.send(json.dumps(told).encode(), mcp_session_id=session)
        [report] = await alpha.until(lambda: alpha.calls("notifications/progress"))
        assert report.message["params"]["progressToken"] == 9007199254740993
        await nothing_of_another_version(gateway, was)


async def nothing_of_another_version(gateway: TestClient, was: Any) -> None:
    """Assert that what a later version marks as its own is answered like anything else that is none of ours."""
    session = was["sessions"][0]["sealed"]
    assert (await gateway.call(_of_version_2(session), "alpha__echo")).status == 404
    assert (await reply(gateway, session, _of_version_2(was["request"]["sealed"]), result={})).status == 202
    async with listen(gateway, session, _of_version_2(was["event_of_get"]["sealed"])) as refused:
        assert refused.status == 405


def _of_version_2(text: str) -> str:
    blob = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert blob[0] == 1
    return base64.urlsafe_b64encode(b"\x02" + blob[1:]).rstrip(b"=").decode()


# -- Two side by side -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(folder: Path, name: str, source: str, document: Mapping[str, Any]) -> AsyncIterator[TestClient]:
    """``mcp-extproc run`` from a folder with the package, which may be another release's."""
    file = write(folder, {"listen": {"port": 0}, "log": {"access": ""}, **document}, f"{name}.yaml")
    command = [*RUN, str(file), "--json", "--workers", "1"]
    async with piped(command, {**os.environ, "PYTHONPATH": source}, folder) as process:
        url = (await announced(process))["url"]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            yield TestClient(url, http)


async def test_two_releases_serve_each_others_sessions(tmp_path: Path) -> None:
    """Before an upgrade is complete, a client's requests meet either."""
    async with StreamingServer("alpha", keeps_events=True) as alpha:
        document = {"servers": {"alpha": {"url": alpha.url}}, "session": {"secret": OLD}}
        async with (
            running(tmp_path, "last", LAST, document) as last,
            running(tmp_path, "this", THIS, document) as this,
        ):
            await serves(last, this, alpha)
            await serves(this, last, alpha)


ROTATION: list[dict[str, Any]] = [
    {"secret": OLD},
    {"secret": OLD, "previous_secrets": [NEW]},
    {"secret": NEW, "previous_secrets": [OLD]},
    {"secret": NEW},
]
"""The secrets of a fleet, step by step. Each step is taken at one gateway after the other."""


async def take(replica: TestGateway, folder: Path, step: dict[str, Any]) -> None:
    """Write a step into a gateway's file, and have it taken up."""
    file = folder / "gateway.yaml"
    file.write_text(json.dumps({**json.loads(file.read_text()), "session": step}))
    await replica.local.restart_workers()


async def test_a_secret_is_rotated_in_steps_while_all_sessions_are_served(tmp_path: Path) -> None:
    """Whichever gateway is a step ahead, each serves what the other sealed."""
    folders = tmp_path / "ahead", tmp_path / "behind"
    for folder in folders:
        folder.mkdir()
    async with (
        StreamingServer("alpha", keeps_events=True) as alpha,
        support.gateway(folders[0], {"alpha": alpha.url}, session=ROTATION[0]) as ahead,
        support.gateway(folders[1], {"alpha": alpha.url}, session=ROTATION[0]) as behind,
    ):
        session = await behind.initialize()
        for step in ROTATION[1:]:
            await take(ahead, folders[0], step)
            await serves(ahead, behind, alpha)
            await serves(behind, ahead, alpha)
            assert (await behind.call(session, "alpha__echo")).result
            await take(behind, folders[1], step)
        # Sessions of before end with the last step, which is why it waits until they have expired.
        # A worker that was replaced may get a call before it has read that it was.
        calling = partial(ahead.call, session, "alpha__echo")
        await eventually(
            calling, "the old secret is gone", until=lambda answer: answer.status == 404 or not answer.result
        )
