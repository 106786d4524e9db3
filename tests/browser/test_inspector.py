"""The MCP Inspector's page, connected to the gateway from the browser: without the Inspector's own proxy in between.

Version 1, because the newer ones connect from a process of their own, and not from the page.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from playwright.async_api import Page, expect

from tests.browser.chromium import chromium
from tests.browser.website import website
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import access_log_entry
from tests.support.gateway import gateway as start_gateway
from tests.support.npm import package
from tests.support.processes import free_port, http_server, sdk_server
from tests.support.scripted import ScriptedServer

MANIFEST = Path(__file__).parent / "npm"


async def _connect(page: Page, inspector: str, url: str) -> None:
    await page.goto(f"{inspector}/?{urlencode({'transport': 'streamable-http', 'serverUrl': url})}")
    await page.get_by_role("combobox").filter(has_text="Via Proxy").click()
    await page.get_by_role("option", name="Direct").click()
    await page.get_by_role("button", name="Connect", exact=True).click()
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()


async def test_it_lists_tools_and_calls_one(tmp_path: Path) -> None:
    port = free_port()
    pages = package("@modelcontextprotocol/inspector-client", MANIFEST) / "dist"
    async with (
        http_server(sdk_server("notes", port), port, log=tmp_path / "notes.log"),
        website(pages) as inspector,
        start_gateway(tmp_path, {"notes": f"http://127.0.0.1:{port}/mcp"}) as gateway,
        chromium() as browser,
    ):
        page = await browser.new_page()
        await _connect(page, inspector, gateway.url)
        await page.get_by_role("tab", name="Tools").click()
        await page.get_by_role("button", name="List Tools").click()
        await page.get_by_text("notes__add", exact=True).click()
        for index, value in enumerate(("1", "2")):
            await page.get_by_role("spinbutton").nth(index).fill(value)
        await page.get_by_role("button", name="Run Tool").click()
        await expect(page.get_by_text("Tool Result: Success")).to_be_visible()
        await expect(page.get_by_text("notes: 3").first).to_be_visible()
        called = await access_log_entry(gateway.access_log, {"mcp.method.name": "tools/call"})
        assert "Chrome" in called["user_agent"], "not from the page"


async def test_it_logs_in(tmp_path: Path) -> None:
    """From the 401 on, all in the browser: it reads the challenge and both documents, registers, is sent to the authorization
    server and back, and connects with the token."""
    port = free_port()
    pages = package("@modelcontextprotocol/inspector-client", MANIFEST) / "dist"
    async with (
        AuthorizationServer(audience=f"http://localhost:{port}/mcp") as idp,
        ScriptedServer("alpha") as alpha,
        website(pages) as inspector,
        chromium() as browser,
    ):
        oauth = {"resource": idp.audience, "issuers": [{"issuer": idp.issuer}]}
        servers = {"alpha": alpha.url}
        async with start_gateway(tmp_path, servers, listen={"port": port}, authentication={"oauth": oauth}) as gateway:
            page = await browser.new_page()
            await _connect(page, inspector, idp.audience)
            await page.get_by_role("tab", name="Tools").click()
            await page.get_by_role("button", name="List Tools").click()
            await expect(page.get_by_text("alpha__echo", exact=True)).to_be_visible()
            listed = await access_log_entry(gateway.access_log, {"mcp.method.name": "tools/list"})
            assert "Chrome" in listed["user_agent"], "not from the page"
            assert (listed["enduser.id"], listed["mcp.principal.issuer"]) == ("alice", idp.issuer)
