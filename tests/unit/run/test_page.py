"""What the page is told, and when."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import msgspec
import pytest

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.run import page as module
from mcp_extproc.run.known import Gateway, Texts, texts
from mcp_extproc.run.page import Page
from mcp_extproc.status.known import Known
from mcp_extproc.upstreams.probe import ServerStatus, State


async def test_attack_a_configuration_is_written_for_people_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many servers that takes as long as the supervisor should do nothing else, and whoever looks brings it about."""
    made = []

    def counted(config: GatewayConfig) -> Texts:
        made.append(config)
        return texts(config)

    monkeypatch.setattr(module, "texts", counted)
    configs = [GatewayConfig.model_validate({"servers": {name: {"url": "http://h/mcp"}}}) for name in ("one", "two")]
    now = configs[0]
    page = Page(TcpAddress("127.0.0.1", 1), lambda: Gateway(now, "gateway.yaml", "run", None, 1))
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    async def told() -> str:
        assert process.stdout is not None
        await page._tell(process)
        return msgspec.json.decode(await process.stdout.readline(), type=Known).given

    assert [await told() for _ in range(3)] == ["servers:\n  one:\n    url: http://h/mcp\n"] * 3
    assert made == configs[:1]
    now = configs[1]
    assert "two" in await told()
    assert made == configs
    process.stdin.close()
    await process.wait()


def said(name: str, state: State, problem: str | None = None) -> ServerStatus:
    return ServerStatus(name, "h:80", f"{name}__", None, None, problem, state)


async def test_what_was_asked_at_the_start_is_told() -> None:
    """Whether the process behind the page is there by then or not; and of another configuration what is the same in it."""

    def config(**urls: str) -> GatewayConfig:
        return GatewayConfig.model_validate({"servers": {name: {"url": url} for name, url in urls.items()}})

    now = config(one="http://h/mcp", two="http://h/mcp")
    page = Page(TcpAddress("127.0.0.1", 1), lambda: Gateway(now, "gateway.yaml", "run", None, 1))
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    told: list[Known] = []

    class Telling:
        """As the process behind the page, which says nothing of its own."""

        stdin, stdout = process.stdin, asyncio.StreamReader()

    async def latest() -> dict[str, tuple[str | None, str | None]]:
        assert process.stdout is not None
        told.append(msgspec.json.decode(await process.stdout.readline(), type=Known))
        return {server.name: (server.state, server.problem) for server in told[-1].servers}

    await page.learn(now, [said("one", "failed", "refused"), said("two", "starting", "slow")])
    attending = asyncio.create_task(page.attend(Telling()))  # type: ignore[arg-type]
    assert await latest() == {"one": ("failed", "refused"), "two": ("starting", "slow")}
    await page.learn(now, [said("two", "ready")])
    assert await latest() == {"one": ("failed", "refused"), "two": ("ready", None)}
    assert told[0].asked == told[1].asked, "the other one was not asked again"
    now = config(one="http://h/mcp", two="http://other/mcp")
    await page._tell(process)
    assert await latest() == {"one": ("failed", "refused"), "two": (None, None)}
    Telling.stdout.feed_eof()
    await attending
    process.stdin.close()
    await process.wait()
