"""The status page in Chromium, in front of a real gateway whose servers write markup wherever they can."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.chromium import chromium
from tests.browser.website import website
from tests.support.gateway import TestGateway
from tests.support.gateway import gateway as start_gateway
from tests.support.processes import entries
from tests.support.scripted import ScriptedServer, answer, tool

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALICE, BOB = "a" * 40, "b" * 40
EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
VIEWS = ("overview", "calls", "tools", "access", "sessions", "configuration", "connect")

SCHEMA = {
    "type": "object",
    "required": ["words", "number"],
    "properties": {
        "words": {"type": "string", "description": EVIL, "title": EVIL},
        "number": {"type": "integer"},
        "order": {"enum": ["up", EVIL], "default": "up"},
        "exact": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "object", "properties": {"city": {"type": "string"}}},
        EVIL: {"type": "number"},
    },
}
TOOLS = [
    tool(
        "search",
        description=f"Finds things. {EVIL}",
        title=EVIL,
        inputSchema=SCHEMA,
        annotations={"readOnlyHint": True},
    ),
    tool("delete", description="Removes a thing.", annotations={"destructiveHint": True}),
    tool("fail"),
    tool("few"),
]

ODD: dict[str, Any] = {
    "type": "object",
    "title": {"toString": 1},
    "properties": {
        "any": {"anyOf": "x", "description": {"toString": 1}},
        "text": {"type": "string", "title": {"toString": 1}},
        "required": {"required": 1, "properties": 1, "enum": {}},
        **{f"field-{number}": {"type": "string"} for number in range(300)},
    },
}
"""A schema that is none. Each property of it broke the view of all tools."""


async def _call(_: Any, message: dict[str, Any]) -> Any:
    """Says what it was asked, between markup."""
    name, arguments = message["params"]["name"], message["params"].get("arguments")
    text = f"{EVIL} {json.dumps(arguments)}"
    picture = {"type": "image", "data": "AAAA", "mimeType": EVIL}
    result = {"content": [{"type": "text", "text": text}, picture], "structuredContent": {"said": EVIL}}
    return answer(message, result={**result, "isError": name == "fail"})


class Stage(NamedTuple):
    """What all tests share."""

    gateway: TestGateway
    browser: Browser
    url: str
    problems: dict[Page, list[str]]
    """Of pages: what their scripts and the browser complain of."""

    async def page(self, view: str = "overview", **options: Any) -> Page:
        context = await self.browser.new_context(**options)
        page = await context.new_page()
        problems = self.problems[page] = []

        def note(message: Any) -> None:
            # Answers such as 401 are none of the page's.
            if message.type == "error" and not message.text.startswith("Failed to load resource"):
                problems.append(message.text)

        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", note)
        await page.goto(f"{self.url}#{view}")
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        return page

    async def calls(self, names: Sequence[str], key: str = ALICE) -> str:
        """Calls of a session, which it returns."""
        session = await self.gateway.initialize(x_api_key=key)
        for name in names:
            await self.gateway.rpc("tools/call", {"name": name}, x_api_key=key, mcp_session_id=session)
        return session


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    rules = [
        {"name": "no-deletes", "action": "deny", "tools": ["delete"], "principals": {"subjects": ["bob"]}},
        {"name": "all", "action": "allow"},
    ]
    async with ScriptedServer("alpha") as alpha, ScriptedServer("beta") as beta, chromium() as browser:
        alpha.pages = [TOOLS]
        alpha.on["tools/call"] = _call
        few = dict(list(ODD["properties"].items())[:4])
        beta.pages = [[tool("many", inputSchema=ODD), tool("odd", inputSchema={**ODD, "properties": few})]]
        servers = {"alpha": alpha.url, "beta": {"url": f"{beta.url}?key=hunter2222"}, "gone": "http://127.0.0.1:9/mcp"}
        async with start_gateway(
            tmp_path_factory.mktemp("page"),
            servers,
            status={"address": "127.0.0.1:0"},
            authentication={"api_keys": {"keys": {"alice": ALICE, "bob": BOB}}},
            authorization={"rules": rules},
            rate_limits=[{"match": {"tool": "few"}, "requests": 1, "per": "hour"}],
        ) as gateway:
            url = gateway.local.status_url
            assert url is not None
            yield Stage(gateway, browser, url, {})


@asynccontextmanager
async def looking(stage: Stage, view: str = "overview", **options: Any) -> AsyncIterator[Page]:
    """A page in a context of its own, without a problem, and without anything that servers wrote having run."""
    page = await stage.page(view, **options)
    try:
        yield page
        assert stage.problems[page] == []
        assert await page.evaluate("window.hacked") is None
    finally:
        await page.context.close()


async def _ask_as(page: Page, key: str) -> None:
    await page.get_by_label("Token or key").fill(key)
    await page.get_by_role("button", name="Ask as this caller").click()


async def test_before_it_is_told_anything_it_says_nothing(stage: Stage) -> None:
    """Neither that nothing was denied, nor that there was no call."""
    context = await stage.browser.new_context()
    try:
        for view in VIEWS:
            page = await context.new_page()
            await page.route("**/events", lambda route: None)  # it stays unanswered
            await page.goto(f"{stage.url}#{view}")
            await expect(page.get_by_text("Connecting", exact=True)).to_be_visible()
            await expect(page.locator("main")).to_have_text(
                "Nothing is known yetIt is shown as soon as the gateway tells it."
            )
            await page.close()
    finally:
        await context.close()


async def test_what_envoy_counts_is_not_taken_for_none(stage: Stage) -> None:
    """Its numbers are not there yet, or not at all."""
    async with looking(stage) as page:
        told = json.loads(await page.evaluate("fetch('state').then((answer) => answer.text())"))
    told["state"] |= {"envoy": None, "records": True}
    events = "".join(f"event: {name}\ndata: {json.dumps(told[name])}\n\n" for name in ("known", "calls", "state"))
    context = await stage.browser.new_context()
    try:
        page = await context.new_page()
        await page.route(
            "**/events",
            lambda route: route.fulfill(body=events, content_type="text/event-stream"),
        )
        await page.goto(f"{stage.url}#sessions")
        card = page.get_by_role("region", name=re.compile("Denied by Envoy.s filters"))
        await expect(card).to_contain_text(re.compile("Envoy.s numbers are not there"))
        await expect(card.get_by_text("No filter has denied anything")).to_be_hidden()
    finally:
        await context.close()


async def test_servers_and_calls(stage: Stage) -> None:
    async with looking(stage) as page:
        servers = page.get_by_role("table", name="Servers")
        alpha = servers.get_by_role("row").filter(has_text="alpha")
        await expect(alpha).to_contain_text("Ready")
        await expect(alpha).to_contain_text("2025-11-25")
        await expect(alpha.get_by_role("cell").nth(3)).to_have_text("4")
        await expect(alpha).to_contain_text("closed")
        gone = servers.get_by_role("row").filter(has_text="gone")
        await expect(gone).to_contain_text("Failed")
        await expect(gone.get_by_role("cell").nth(5)).to_have_text("–")  # noqa: RUF001 - not observed
        await stage.calls(["alpha__search", "alpha__few", "alpha__few", f"alpha__{EVIL}"])
        await stage.calls(["alpha__delete"], BOB)
        calls = page.get_by_role("table", name="Latest calls")
        ran = calls.get_by_role("row").filter(has_text="search")
        await expect(ran).to_contain_text("allowed")
        await expect(ran).to_contain_text("alice")
        await expect(ran.get_by_role("cell").last).to_have_text(re.compile(r"\d+(\.\d+)? m?s"))
        await expect(calls.get_by_role("row").filter(has_text="rule no-deletes")).to_contain_text("denied")
        await expect(calls.get_by_role("row").filter(has_text="rule rate_limit")).to_contain_text("denied")
        await expect(calls.get_by_role("row").filter(has_text=EVIL)).to_contain_text("failed")
        await expect(page.get_by_role("table", name="Slowest tools")).to_contain_text("search")
        for cell in (3, 4):  # names of servers and callers are not broken, however long the others are
            assert await ran.get_by_role("cell").nth(cell).evaluate(LINES) == 1
        denials = page.get_by_role("table", name="Denials")
        await expect(denials.get_by_role("row").filter(has_text="rate_limit")).to_contain_text("few on alpha by alice")
        await expect(denials.get_by_role("row").filter(has_text="no-deletes")).to_contain_text("by bob")
        await expect(alpha.get_by_role("img")).to_have_attribute("aria-label", re.compile("^Calls of alpha"))


async def test_calls_are_found_and_looked_at(stage: Stage) -> None:
    async with looking(stage, "calls") as page:
        await stage.calls(["alpha__search", "alpha__fail", "alpha__last"])
        rows = page.get_by_role("table", name="Calls").get_by_role("row")
        await expect(rows.filter(has_text="alpha__last")).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type("alice search")
        await expect(rows.filter(has_text="fail")).to_have_count(0)
        await rows.get_by_role("button").first.focus()
        await page.keyboard.press("Enter")
        one = page.get_by_role("region", name="One call")
        for text in ("alice", "tools/call", "alpha", "allowed, rule all", "at the server"):
            await expect(one).to_contain_text(text)
        await one.get_by_role("button", name="Close").click()
        await expect(rows.get_by_role("button").first).to_be_focused()
        await expect(page.get_by_text(re.compile(r"^\d+ of the last \d+ calls, the latest first$"))).to_be_visible()
        await rows.nth(1).get_by_role("cell").last.click()
        await expect(one).to_contain_text("at the server")
        await one.get_by_role("button", name="Close").click()
        await page.get_by_label("Filter calls").fill("")
        await expect(page.get_by_text(re.compile(r"^\d+ calls since \d\d:\d\d:\d\d$"))).to_be_visible()
        await page.get_by_role("button", name="Hold").click()
        before = await rows.count()
        await stage.calls(["alpha__search"])
        await expect(page.get_by_text(re.compile(r"Held; [1-9]\d* calls? since then"))).to_be_visible()
        assert await rows.count() == before
        await page.get_by_role("button", name="Go on").click()
        await expect(rows).not_to_have_count(before)


async def test_tools_are_searched_and_called(stage: Stage) -> None:
    async with looking(stage, "tools") as page:
        await expect(page.get_by_text("Paste a token to see what it may see.")).to_be_visible()
        await _ask_as(page, ALICE)
        await expect(page.get_by_text("6 tools", exact=True)).to_be_visible()
        await expect(page.get_by_text("Those of server gone are not among them: it is unreachable")).to_be_visible()
        await page.get_by_label("Search tools").fill("finds")
        await expect(page.get_by_text("1 of 6 tools")).to_be_visible()
        one = page.get_by_role("region", name="Tool", exact=True)
        await expect(one).to_contain_text(f"Finds things. {EVIL}")
        await expect(one).to_contain_text("read-only")
        await one.get_by_text("Schema of its arguments").click()
        await expect(one.get_by_text('"required"')).to_be_visible()

        call = one.get_by_role("button", name="Call")
        await call.click()
        await expect(one.get_by_text("It is needed.")).to_be_visible()
        await expect(one.get_by_label("number", exact=True)).to_be_focused()
        await one.get_by_label(re.compile("^words")).fill('a "b"')
        await one.get_by_label("number", exact=True).fill("1.5")
        await call.click()
        await expect(one.get_by_text("A whole number is expected.")).to_be_visible()
        await one.get_by_label("number", exact=True).fill("12345678901234567890")
        await one.get_by_label("exact (optional)").select_option("true")
        await one.get_by_label("tags (optional)").fill("x, y")
        await one.get_by_label("city (optional)").fill("Paris")
        await page.keyboard.press("Enter")
        await expect(one.get_by_text("Done")).to_be_visible()
        sent = {"words": 'a "b"', "number": 12345678901234567890, "order": "up", "exact": True, "tags": ["x", "y"]}
        await expect(one).to_contain_text(f"{EVIL} {json.dumps(sent | {'where': {'city': 'Paris'}})}")
        await expect(one).to_contain_text(f"image, {EVIL}, 3 B")
        await one.get_by_text("The answer as it came").click()
        await expect(one).to_contain_text('"structuredContent": {')

        await page.get_by_label("Search tools").fill("fail")
        await page.get_by_role("button", name="alpha__fail").click()
        await one.get_by_role("button", name="Call").click()
        await expect(one.get_by_text("The tool reports an error")).to_be_visible()
        await _ask_as(page, "wrong")
        await expect(page.get_by_text(re.compile("^They can.t be listed$"))).to_be_visible()


async def test_a_schema_that_is_none_breaks_nothing(stage: Stage) -> None:
    async with looking(stage, "tools") as page:
        await _ask_as(page, ALICE)
        names = page.get_by_label("Tools", exact=True)
        await names.get_by_text("beta__odd", exact=True).click()
        form = page.get_by_role("form", name="Arguments")
        await form.get_by_label("text").fill("x")
        await form.get_by_role("button", name="Call").click()
        await expect(page.locator(".answer")).to_contain_text('"text": "x"')
        await names.get_by_text("beta__many", exact=True).click()
        await form.get_by_label("Arguments as JSON").fill('{"any": 1}')
        await form.get_by_role("button", name="Call").click()
        await expect(page.locator(".answer")).to_contain_text("Done")


async def test_what_a_principal_sees(stage: Stage) -> None:
    async with looking(stage, "access") as page:
        for who, key in (("First caller", ALICE), ("Compare with", BOB)):
            form = page.get_by_role("form", name=who)
            await form.get_by_label(f"{who}: token or key").fill(key)
            await form.get_by_role("button", name="Ask").click()
        tools = page.get_by_role("region", name="Tools")
        await expect(tools).to_contain_text("first: 6, other: 5")
        await expect(tools).to_contain_text("Those of server gone are not among them: it is unreachable")
        await expect(tools.get_by_role("listitem").filter(has_text="alpha__delete")).to_contain_text("only the first")
        await expect(tools.get_by_role("listitem").filter(has_text="alpha__search")).not_to_contain_text("only")
        form = page.get_by_role("form", name="Compare with")
        await form.get_by_label("Compare with: token or key").fill("")
        await form.get_by_role("button", name="Ask").click()
        await expect(page.get_by_role("alert")).to_contain_text("This endpoint wants an API key.")


async def test_sessions_and_denials(stage: Stage) -> None:
    async with looking(stage, "sessions") as page:
        await expect(page.get_by_text("Open connections")).to_be_visible()
        await stage.calls(["alpha__search", "alpha__delete"], BOB)
        row = page.get_by_role("table", name="Sessions").get_by_role("row").filter(has_text="bob").first
        await expect(row).to_contain_text("2025-11-25")
        await expect(row.get_by_role("cell").last).to_have_text("1")
        await expect(page.get_by_role("table", name="Denials", exact=True)).to_contain_text("no-deletes")
        await stage.calls(["alpha__few", "alpha__few"])
        await expect(page.get_by_role("table", name="Denials that Envoy counts")).to_contain_text("rate_limit")


async def test_configuration_without_secrets(stage: Stage) -> None:
    async with looking(stage, "configuration") as page:
        text = page.get_by_label("Configuration", exact=True)
        await expect(text).to_contain_text("?key=***")
        await expect(text).to_contain_text("alice: '***'")
        await page.get_by_label("With all defaults").check()
        await expect(text).to_contain_text("discovery_timeout: 10")
        shown = await text.inner_text()
        assert not [secret for secret in (ALICE, BOB, "hunter2222") if secret in shown]


async def test_lines_for_agents(stage: Stage) -> None:
    async with looking(stage, "connect") as page:
        key = "--header 'x-api-key: YOUR-KEY'"
        claude = page.get_by_role("region", name="Claude Code")
        await expect(claude).to_contain_text(f"claude mcp add --transport http gateway {stage.gateway.url} {key}")
        await expect(page.get_by_role("region", name="Gemini CLI")).to_contain_text(
            f"gemini mcp add --transport http gateway {stage.gateway.url} {key}"
        )
        for agent, top in (("Cursor", "mcpServers"), ("VS Code", "servers")):
            text = await page.get_by_role("region", name=agent).locator("pre").inner_text()
            assert json.loads(text)[top]["gateway"]["url"] == stage.gateway.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_narrow_window(stage: Stage, scheme: str) -> None:
    """In both colours, without scrolling sideways; and text stands out from its ground (WCAG 2.2, 1.4.3)."""
    async with looking(stage, viewport={"width": 390, "height": 800}, color_scheme=scheme) as page:
        await stage.calls(["alpha__search", f"alpha__{'x' * 200}"])
        await expect(page.get_by_role("table", name="Latest calls")).to_contain_text("x" * 100)
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) > 384) == (scheme == "light")
        for view in VIEWS:
            tab = page.locator(f'nav a[href="#{view}"]')
            await tab.click()
            await expect(tab).to_have_attribute("aria-current", "page")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            assert await page.evaluate(LOW_CONTRAST) == [], view


LINES = (
    "cell => { const all = document.createRange(); all.selectNodeContents(cell); return all.getClientRects().length }"
)

LOW_CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => { const [r, g, b] = parts(color).map(channel); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const groundOf = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.matches(".skip, script")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(groundOf(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) found.push(`${walker.currentNode.data} ${getComputedStyle(element).color}`);
  }
  return found;
}"""


async def test_by_keyboard(stage: Stage) -> None:
    """All views, and a call, without a mouse."""
    async with looking(stage) as page:
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("To the content")).to_be_focused()
        for _ in range(3):
            await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Tools")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.get_by_label("Token or key").focus()
        await page.keyboard.type(ALICE)
        await page.keyboard.press("Enter")
        first = page.get_by_role("button", name=re.compile("^alpha__search"))
        await expect(first).to_be_visible()
        await first.focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("heading", name="alpha__delete")).to_be_visible()
        for _ in range(4):
            await page.keyboard.press("Tab")
        await page.get_by_role("button", name="Call", exact=True).focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Done")).to_be_visible()


ATTEMPTS = """async (url) => {
  const read = async (promise) => {
    try {
      const got = await promise;
      return got.type === 'opaque' ? 'opaque' : await got.text();
    } catch {
      return 'refused';
    }
  };
  const body = JSON.stringify({jsonrpc: '2.0', id: 1, method: 'initialize', params: {}});
  const events = await new Promise((done) => {
    const source = new EventSource(url + 'events');
    source.onopen = () => done('open');
    source.onerror = () => done('refused');
  });
  return {
    events,
    read: await read(fetch(url + 'state')),
    blind: await read(fetch(url + 'relay/', {method: 'POST', mode: 'no-cors', body})),
    asked: await read(fetch(url + 'relay/', {method: 'POST', headers: {'x-status-page': ''}, body})),
  };
}"""


async def test_a_page_of_another_origin_gets_nothing(stage: Stage, tmp_path: Path) -> None:
    """Nor does it make anything happen: what a browser sends without asking is refused."""
    (tmp_path / "index.html").write_text("<!doctype html>")
    before = await _without_a_key(stage, "before")
    async with website(tmp_path) as other:
        page = await stage.browser.new_page()
        await page.goto(other)
        found = await page.evaluate(ATTEMPTS, stage.url)
        await page.close()
    assert found == {"events": "refused", "read": "refused", "blind": "refused", "asked": "refused"}
    assert await _without_a_key(stage, "after") == before


async def _without_a_key(stage: Stage, id: str) -> int:
    """Requests that have come to the endpoint without a key until now, as those of a stranger's page would."""
    await stage.gateway.rpc("ping", id=id, x_api_key=ALICE)
    await stage.gateway.logged(jsonrpc_request_id=json.dumps(id))
    return sum("api_key" in entry.get("response_code_details", "") for entry in entries(stage.gateway.access_log))


async def test_a_name_that_resolves_to_this_machine_gets_nothing(stage: Stage) -> None:
    """DNS rebinding: to the browser it is one origin."""
    port = stage.url.rsplit(":", 1)[1].strip("/")
    async with chromium("--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        page = await browser.new_page()
        response = await page.goto(f"http://evil.example:{port}/")
        assert response is not None
        assert response.status == 403
        assert "for this machine" in await page.inner_text("body")


async def test_it_says_when_the_gateway_is_gone(stage: Stage, tmp_path: Path) -> None:
    async with ScriptedServer("gamma") as gamma:
        async with start_gateway(tmp_path, {"gamma": gamma.url}, status={"address": "127.0.0.1:0"}) as gateway:
            page = await stage.browser.new_page()
            await page.goto(str(gateway.local.status_url))
            await expect(page.get_by_text("Live", exact=True)).to_be_visible()
            await expect(page.get_by_text("No calls yet")).to_be_visible()
        await expect(page.get_by_text("Not connected; trying again")).to_be_visible()
        await page.close()
