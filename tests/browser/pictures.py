"""Draws the pictures of the status page in the documentation. They show what happens to be going on then, and one for each of
three questions of docs/observability.md, its answer.

python -m tests.browser.pictures
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Page

from tests.browser.chromium import chromium
from tests.support.gateway import TestGateway
from tests.support.gateway import gateway as start_gateway
from tests.support.scripted import ScriptedServer, answer, tool

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SECONDS = 100
"""Of traffic before the first picture: the course of the last two minutes is to be seen."""

KEYS = {"ada": "a" * 40, "grace": "g" * 40, "linus": "l" * 40}
SERVERS: dict[str, dict[str, float]] = {
    "github": {"search_code": 0.08, "get_issue": 0.02, "create_issue": 0.05, "delete_repository": 0.03},
    "tickets": {"list_open": 0.012, "close": 0.02, "assign": 0.015},
    "warehouse": {"query": 0.4, "tables": 0.006},
}
"""Servers, their tools, and seconds that these take."""

RULES = [
    {"name": "no-deletes", "action": "deny", "tools": ["delete_*"], "principals": {"not": {"subjects": ["ada"]}}},
    {"name": "staff", "action": "allow", "principals": {"authenticated": True}},
]


def _answering(tools: dict[str, float]) -> Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        name = message["params"]["name"]
        await asyncio.sleep(random.lognormvariate(0, 0.4) * tools.get(name, 0.01))
        fails = random.random() < 0.04
        return answer(message, result={"content": [{"type": "text", "text": "ok"}], "isError": fails})

    return handler


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[TestGateway]:
    """One in front of all of them, and of one that is down."""
    async with AsyncExitStack() as stack:
        servers = {"calendar": "http://127.0.0.1:9/mcp"}
        for name, tools in SERVERS.items():
            server = await stack.enter_async_context(ScriptedServer(name, begins_in_events=True))
            server.pages = [[tool(each, description=f"{each.replace('_', ' ').capitalize()}.") for each in tools]]
            server.on["tools/call"] = _answering(tools)
            servers[name] = server.url
        yield await stack.enter_async_context(
            start_gateway(
                folder,
                {name: servers[name] for name in ("github", "tickets", "warehouse", "calendar")},
                listen={"port": 1975},
                status={"address": "127.0.0.1:0"},
                telemetry={"answers": "all"},
                authentication={"api_keys": {"keys": KEYS}},
                authorization={"rules": RULES},
                rate_limits=[{"match": {"tool": "query"}, "requests": 20, "per": "minute"}],
            )
        )


async def _work(gateway: TestGateway, name: str) -> None:
    """What one of them does, until it is cancelled."""
    headers = {"x_api_key": KEYS[name]}
    headers["mcp_session_id"] = await gateway.initialize(**headers)
    await gateway.rpc("tools/list", **headers)
    calls = [f"{server}__{each}" for server, tools in SERVERS.items() for each in tools]
    weights = [8.0, 6, 3, 0.6, 6, 4, 4, 3, 2]
    for number in range(1_000_000):
        [call] = random.choices(calls, weights)
        await gateway.rpc("tools/call", {"name": call}, id=number, **headers)
        await asyncio.sleep(random.expovariate(1.5 if number % 60 < 40 else 5))


async def draw() -> None:
    """All pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with gateway(Path(folder)) as running, chromium() as browser:
            url = str(running.local.status_url)
            wide = await browser.new_page(color_scheme="light", viewport={"width": 1200, "height": 900})
            narrow = await browser.new_page(color_scheme="dark", viewport={"width": 390, "height": 844})
            await wide.goto(url)
            await narrow.goto(f"{url}#calls")
            workers = [asyncio.create_task(_work(running, name)) for name in KEYS]
            await asyncio.sleep(SECONDS)
            for page in (wide, narrow):  # it has no scrollbar here, and would have an empty margin for it
                await page.evaluate("document.documentElement.style.scrollbarGutter = 'auto'")
            await wide.screenshot(path=IMAGES / "status-page.png", full_page=True)
            await narrow.screenshot(path=IMAGES / "status-page-narrow.png")
            await _answers(wide)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def _answers(page: Page) -> None:
    """Which tool is slow, who called what, why a call was denied."""
    slowest = page.get_by_role("table", name="Slowest tools")
    await page.locator("section.card", has=slowest).screenshot(path=IMAGES / "slow-tools.png")
    await page.get_by_role("link", name="Calls").click()
    await page.get_by_role("button", name="Hold").click()
    calls = page.get_by_label("Filter calls")
    await calls.fill("grace tickets")
    await page.screenshot(path=IMAGES / "who-called.png", clip={"x": 0, "y": 0, "width": 1200, "height": 420})
    await calls.fill("no-deletes")
    await page.get_by_role("table", name="Calls").get_by_role("row").nth(1).get_by_role("cell").last.click()
    await page.get_by_role("region", name="One call").screenshot(path=IMAGES / "why-denied.png")


if __name__ == "__main__":
    asyncio.run(draw())
