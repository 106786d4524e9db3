"""A page that is an MCP client by itself, on an origin that may call, and on one that may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import chromium
from tests.browser.website import website
from tests.support.gateway import TestGateway, access_log_entry
from tests.support.gateway import gateway as start_gateway
from tests.support.processes import free_port, http_server, sdk_server
from tests.support.waiting import PATIENCE

PAGE = Path(__file__).parent / "page"
CLIENT = (PAGE / "client.js").read_text()

# A request of a form: no browser asks before it.
SIMPLE = """async (url) => (await fetch(url, {method: "POST", mode: "no-cors", body: "{}"})).type"""


@asynccontextmanager
async def notes(folder: Path, **config: Any) -> AsyncIterator[TestGateway]:
    """A gateway in front of a server on the SDK, and of one that has gone."""
    port, gone = free_port(), free_port()
    async with (
        http_server(sdk_server("notes", port), port, log=folder / "notes.log"),
        http_server(sdk_server("down", gone), gone, log=folder / "down.log") as down,
        start_gateway(
            folder,
            {"notes": f"http://127.0.0.1:{port}/mcp", "down": f"http://127.0.0.1:{gone}/mcp"},
            **config,
        ) as gateway,
    ):
        down.terminate()
        await down.wait()
        yield gateway


async def in_a_page(url: str, script: str, argument: str) -> Any:
    """What a script returns in a page of the browser."""
    async with chromium() as browser, asyncio.timeout(PATIENCE):
        page = await browser.new_page()
        await page.goto(url)
        return await page.evaluate(script, argument)


@pytest.mark.parametrize("config", ["origins", "default"])
async def test_a_page_that_may_call(tmp_path: Path, config: str) -> None:
    async with website(PAGE) as page:
        async with notes(tmp_path, **({"origins": [page]} if config == "origins" else {})) as gateway:
            told = await in_a_page(page, CLIENT, gateway.url)
    assert told.pop("error").startswith("No answer: server 'down'"), told
    assert told == {
        "read": [200, 202, 200, 200, 200, 200, 204, 404],
        "session": True,
        "protocol": "2025-11-25",
        "tools": [f"notes__{name}" for name in ("add", "repeat", "fail", "count")],
        "result": "notes: 3",
        "gone": -32600,
    }


async def test_a_page_that_may_not(tmp_path: Path) -> None:
    """The browser sends none of its requests, as it was not answered that it may; what it does send gets 403."""
    async with website(PAGE) as allowed, website(PAGE) as other, notes(tmp_path, origins=[allowed]) as gateway:
        assert await in_a_page(other, CLIENT, gateway.url) == {"read": [], "refused": "TypeError: Failed to fetch"}
        preflight = await access_log_entry(gateway.access_log, {"http_method": "OPTIONS"})
        assert preflight["response_code_details"] == "cors_response"
        assert await in_a_page(other, SIMPLE, gateway.url) == "opaque"
        posted = await access_log_entry(gateway.access_log, {"http_method": "POST"})
        assert (posted["status"], posted["error.type"]) == (403, "origin")
