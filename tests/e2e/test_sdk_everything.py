"""The SDK's own client does everything against merged servers whose names, URIs, ids, tokens and event ids collide.

Who answered is told by the answer alone: the servers (tests/support/sdk_rich_server.py) differ in nothing but their name.
"""

from __future__ import annotations

import asyncio
import json
import operator
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolResult,
    ElicitCompleteNotification,
    EmbeddedResource,
    PromptListChangedNotification,
    PromptReference,
    ResourceLink,
    ResourceListChangedNotification,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    TextContent,
    TextResourceContents,
    ToolListChangedNotification,
)

from tests.support import everything
from tests.support.gateway import TestGateway
from tests.support.gateway import gateway as start_gateway
from tests.support.npm import node, package
from tests.support.person import Person, call, text
from tests.support.processes import ROOT, free_port, http_server, program
from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import Wire

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The 2026 version of the protocol has no handshake, and the SDK warns of what only older versions have.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

FAMILIES: dict[str, dict[str, str | None]] = {
    "two": {"first": None, "second": None},
    "three": {"first": None, "second": "2025-06-18", "third": "2025-03-26"},
}
"""Servers by name, and the version on which each insists; by default it agrees to the client's."""

PAIR = ("first", "second")

VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25")


def command(name: str, port: int, version: str | None = None) -> list[str]:
    pinned = ["--always", version] if version else []
    return [sys.executable, "-W", "ignore", "-m", "tests.support.sdk_rich_server", name, str(port), *pinned]


class Family:
    """A gateway in front of servers that look the same."""

    def __init__(self, servers: Mapping[str, str | None], gateway: TestGateway) -> None:
        self._servers = servers
        self.names = list(servers)
        self.gateway = gateway

    def insists(self, name: str) -> str | None:
        """The version that a server negotiates with everybody."""
        return self._servers[name]

    def speaking(self, oldest: str, client_version: str) -> list[str]:
        """The servers whose session with a client of that version has at least that one."""
        return [
            name for name, pinned in self._servers.items() if min(pinned or client_version, client_version) >= oldest
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FAMILIES)
async def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Family]:
    servers = FAMILIES[request.param]
    logs = tmp_path_factory.mktemp("servers")
    async with AsyncExitStack() as stack:
        ports = {name: free_port() for name in servers}
        await asyncio.gather(*(
            stack.enter_async_context(
                http_server(command(name, ports[name], version), ports[name], log=logs / f"{name}.log")
            )
            for name, version in servers.items()
        ))  # fmt: skip
        urls = {name: f"http://127.0.0.1:{port}/mcp" for name, port in ports.items()}
        gateway = await stack.enter_async_context(start_gateway(tmp_path_factory.mktemp("gateway"), urls))
        yield Family(servers, gateway)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The version that the client proposes, which the SDK has no option for."""
    chosen: str = request.param
    monkeypatch.setattr("mcp.client.session.LATEST_HANDSHAKE_VERSION", chosen)
    return chosen


@pytest.fixture
def person() -> Person:
    return Person()


@pytest_asyncio.fixture(loop_scope="module")
async def client(family: Family, version: str, person: Person) -> AsyncIterator[Client]:
    opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def live() -> None:
        # In one task from start to end, as the SDK's cancel scopes want it; fixtures end in another than they start in.
        async with person.client(family.gateway.url) as client:
            opened.set_result(client)
            await done.wait()

    living = asyncio.create_task(live())
    first: list[asyncio.Future[Any]] = [living, opened]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if opened.done():
        assert opened.result().protocol_version == version
        yield opened.result()
    done.set()
    await living


async def call_all(client: Client, names: Iterable[str], tool: str, **arguments: Any) -> list[str]:
    """The same call to servers at the same time, answers in the order of the servers."""
    return await asyncio.gather(*(call(client, f"{name}__{tool}", **arguments) for name in names))


async def streaming(client: Client, person: Person, names: Sequence[str]) -> None:
    """Wait until the streams of all servers reach the client, by a message on each."""
    while {log.logger for log in person.logs} != {f"{name}/same" for name in names}:
        # Sent before its stream is open, a message is kept for who resumes, and this client has nothing to resume.
        await call_all(client, names, "log", level="error", text="hello", own_stream=True)
    await call_all(client, names, "log", level="error", text="go", own_stream=True)
    await person.until(lambda: sum(log.data == "go" for log in person.logs) == len(names))


# -- From the client --------------------------------------------------------------------------------------------------


async def test_tools(client: Client, family: Family) -> None:
    listed = [tool.name for tool in (await client.list_tools()).tools]
    assert len(set(listed)) == len(listed)
    for name in family.names:
        assert {f"{name}__who", f"{name}__sample"} <= set(listed)
    assert await call_all(client, family.names, "who", n=7) == [f"{name}: 7 (1)" for name in family.names]
    assert await call_all(client, family.names, "who", n=8) == [f"{name}: 8 (2)" for name in family.names]
    assert client.instructions is not None
    assert all(f"I am {name}." in client.instructions for name in family.names)


async def test_request_ids_of_clients_collide(client: Client, family: Family, person: Person) -> None:
    """Every client of the SDK counts its requests from 1."""
    async with person.client(family.gateway.url) as other:
        answers = await asyncio.gather(*(
            call(each, f"{name}__who", n=n) for n in range(10) for name in family.names for each in (client, other)
        ))  # fmt: skip
    who = [answer.partition(" (")[0] for answer in answers]
    assert who == [f"{name}: {n}" for n in range(10) for name in family.names for _ in "ab"]
    assert {answer.rpartition(" ")[2] for answer in answers} == {f"({n})" for n in range(1, 11)}


async def test_links_in_results(client: Client, family: Family, version: str) -> None:
    """Links are new in 2025-06-18: a server that speaks it has them turned to text for a client that does not."""
    for name in family.names:
        link, embedded = (await client.call_tool(f"{name}__link", {})).content
        if version == "2025-03-26" and family.insists(name) == "2025-06-18":
            assert isinstance(link, TextContent)
            uri = link.text.removeprefix("note: ")
        else:
            assert isinstance(link, ResourceLink)
            uri = link.uri
        assert isinstance(embedded, EmbeddedResource)
        assert embedded.resource.uri == uri
        [content] = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert (content.uri, content.text) == (uri, f"The note of {name}")


async def test_prompts(client: Client, family: Family) -> None:
    assert {prompt.name for prompt in (await client.list_prompts()).prompts} >= {
        f"{name}__greet" for name in family.names
    }
    for name in family.names:
        greeting, note = (await client.get_prompt(f"{name}__greet", {"who": "you"})).messages
        assert isinstance(greeting.content, TextContent)
        assert greeting.content.text == f"{name} greets you"
        assert isinstance(note.content, EmbeddedResource)
        [content] = (await client.read_resource(str(note.content.resource.uri))).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == f"The note of {name}"


async def test_resources_and_templates(client: Client, family: Family) -> None:
    notes = [resource.uri for resource in (await client.list_resources()).resources if resource.name == "note"]
    assert len(set(notes)) == len(family.names)
    read = [(await client.read_resource(uri)).contents[0] for uri in notes]
    assert [(content.uri, getattr(content, "text", None)) for content in read] == [
        (uri, f"The note of {name}") for uri, name in zip(notes, family.names, strict=True)
    ]
    templates = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
    assert len(set(templates)) == len(family.names)
    for name, template in zip(family.names, templates, strict=True):
        uri = template.replace("{topic}", "cats")
        [content] = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert (content.uri, content.text) == (uri, f"{name} on cats")


async def test_completion(client: Client, family: Family) -> None:
    templates = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
    for name, template in zip(family.names, templates, strict=True):
        prompt = PromptReference(type="ref/prompt", name=f"{name}__greet")
        told = await client.complete(prompt, {"name": "who", "value": "A"})
        assert told.completion.values == [f"{name} greet who=A"]
        resource = ResourceTemplateReference(type="ref/resource", uri=template)
        told = await client.complete(resource, {"name": "topic", "value": "c"})
        assert told.completion.values == [f"{name} notes://by/{{topic}} topic=c"]


async def test_subscriptions(client: Client, family: Family, person: Person) -> None:
    """Only who was subscribed to speaks, and the URI says who it is."""
    notes = [resource.uri for resource in (await client.list_resources()).resources if resource.name == "note"]
    for uri in notes[1:]:
        await client.subscribe_resource(uri)
    await call_all(client, family.names, "touch")
    await person.until(lambda: len(person.of(ResourceUpdatedNotification)) >= len(notes) - 1)
    await client.unsubscribe_resource(notes[1])
    await client.subscribe_resource(notes[0])
    await call_all(client, family.names, "touch")
    await person.until(lambda: len(person.of(ResourceUpdatedNotification)) >= 2 * len(notes) - 2)
    updated = [notification.params.uri for notification in person.of(ResourceUpdatedNotification)]
    assert sorted(updated) == sorted([*notes[1:], notes[0], *notes[2:]])


async def test_progress(client: Client, family: Family) -> None:
    """Progress tokens are request ids, which all clients count from 1."""

    async def count(name: str, to: int) -> list[tuple[float, str | None]]:
        seen: list[tuple[float, str | None]] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            assert total == to
            seen.append((progress, message))

        result = await client.call_tool(f"{name}__count", {"to": to}, progress_callback=on_progress)
        assert text(result) == f"{name} counted"
        return seen

    jobs = [(name, to) for name in family.names for to in (3, 5)]
    seen = await asyncio.gather(*(count(*job) for job in jobs))
    # Messages are new in 2025-03-26, the oldest version here.
    assert seen == [[(step, f"{name} at {step}") for step in range(1, to + 1)] for name, to in jobs]


async def test_cancellation(client: Client, family: Family) -> None:
    """Requests of all servers wait. One is cancelled, and only it."""
    began: asyncio.Queue[str | None] = asyncio.Queue()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        began.put_nowait(message)

    def wait(name: str) -> asyncio.Task[CallToolResult]:
        calling = client.call_tool(f"{name}__wait", {"key": name}, progress_callback=on_progress)
        return asyncio.get_running_loop().create_task(calling)

    waiting = {name: wait(name) for name in family.names}
    async with asyncio.timeout(PATIENCE):
        assert {await began.get() for _ in family.names} == set(family.names)
    last = family.names[-1]
    for name in (last, *family.names[:-1]):
        waiting[name].cancel()
        await asyncio.gather(waiting[name], return_exceptions=True)
        await eventually(partial(cancelled, client, name), f"{name} is told", until=partial(operator.eq, [name]))
        if name == last:
            assert not any([await cancelled(client, other) for other in family.names[:-1]])


async def cancelled(client: Client, name: str) -> list[str]:
    """Which waiting calls a server was told are cancelled."""
    keys: list[str] = (await seen(client, name))["cancelled"]
    return keys


async def seen(client: Client, name: str) -> dict[str, Any]:
    """What the session did at a server, as the server says."""
    parsed: dict[str, Any] = json.loads(await call(client, f"{name}__seen"))
    return parsed


# -- From the servers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own_stream", [False, True], ids=["call", "get"])
async def test_sampling(client: Client, family: Family, person: Person, own_stream: bool) -> None:
    """All servers ask before the first gets an answer: their own ids are the same, those that the client sees are not."""
    await together(person, len(family.names))
    answers = await call_all(client, family.names, "sample", prompt="x", own_stream=own_stream)
    assert answers == [f"{name} heard: <{name} asks x>" for name in family.names]
    assert len({id for id, _ in person.asked}) == len(family.names)


@pytest.mark.parametrize("own_stream", [False, True], ids=["call", "get"])
async def test_elicitation_with_a_form(
    client: Client, family: Family, person: Person, version: str, own_stream: bool
) -> None:
    """The message says who asks. Clients of 2025-03-26 know no elicitation, and are not asked."""
    if version == "2025-03-26":
        with pytest.raises(MCPError, match="does not offer elicitation/create"):
            await client.call_tool("first__ask", {"question": "x", "own_stream": own_stream})
        assert not person.asked
        return
    names = family.speaking("2025-06-18", version)
    await together(person, len(names))
    answers = await call_all(client, names, "ask", question="x", own_stream=own_stream)
    assert answers == [f"{name} was told: accept {{'answer': '<{name}: x>'}}" for name in names]
    assert len({id for id, _ in person.asked}) == len(names)


async def test_elicitation_with_a_url(client: Client, family: Family, person: Person, version: str) -> None:
    """Elicitation ids collide; the request and the word that it is done carry the same one."""
    asking = family.speaking("2025-11-25", version)
    if not asking:
        with pytest.raises(MCPError, match="does not offer"):
            await client.call_tool("first__visit", {})
        assert not person.asked
        return
    answers = await asyncio.gather(*(call(client, f"{name}__visit") for name in asking))
    assert answers == [f"{name} was told: accept None" for name in asking]
    ids = dict(person.urls)
    assert sorted(ids) == [f"https://{name}.example/sign-in" for name in asking]
    assert len(set(ids.values())) == len(asking)
    await person.until(lambda: len(person.of(ElicitCompleteNotification)) == len(asking))
    done = {notification.params.elicitation_id for notification in person.of(ElicitCompleteNotification)}
    assert done == set(ids.values())


async def test_roots(client: Client, family: Family, person: Person) -> None:
    await together(person, len(family.names))
    assert await call_all(client, family.names, "roots") == [f"{name}: file:///home" for name in family.names]
    person.roots = ["file:///elsewhere"]
    await client.send_roots_list_changed()
    for name in family.names:
        told = await eventually(
            partial(seen, client, name), f"{name} is told", until=lambda seen: seen["roots_changed"]
        )
        assert told["roots_changed"] == 1


async def test_pings_of_servers(client: Client, family: Family, person: Person) -> None:
    assert await call_all(client, family.names, "ping") == [f"{name}: pong" for name in family.names]


@pytest.mark.parametrize("own_stream", [False, True], ids=["call", "get"])
async def test_logging(client: Client, family: Family, person: Person, own_stream: bool) -> None:
    """The level goes to every server; the logger's name says whose message it is."""
    await client.set_logging_level("warning")
    assert [(await seen(client, name))["level"] for name in family.names] == ["warning"] * len(family.names)
    await call_all(client, family.names, "log", level="info", text="too low", own_stream=own_stream)
    await call_all(client, family.names, "log", level="error", text="high", own_stream=own_stream)
    await person.until(lambda: len(person.logs) >= len(family.names))
    assert sorted((log.logger, log.level, log.data) for log in person.logs) == sorted(
        (f"{name}/same", "error", "high") for name in family.names
    )


async def together(person: Person, count: int) -> None:
    """Have nobody answered before so many have asked."""

    async def all_asked() -> None:
        await person.until(lambda: len(person.asked) >= count)

    person.before_answer = all_asked


# -- Connections that break -------------------------------------------------------------------------------------------


async def test_a_server_that_hangs_up(client: Client, family: Family, version: str) -> None:
    """SEP-1699, which is new in 2025-11-25: the answer comes on the stream that the client opens next."""
    names = family.speaking("2025-11-25", version)
    answers = await asyncio.gather(*(call(client, f"{name}__hang_up") for name in names))
    assert answers == [f"{name} answers nevertheless" for name in names]


async def test_calls_go_on_after_a_dropped_connection(family: Family, version: str, person: Person) -> None:
    """Calls to all servers stand when the client's connections break; it resumes with event ids that collide upstream."""
    began: asyncio.Queue[str | None] = asyncio.Queue()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        began.put_nowait(message)

    async with Wire(family.gateway.local.port) as wire, person.client(f"http://localhost:{wire.port}/mcp") as client:
        standing = [
            asyncio.ensure_future(client.call_tool(f"{name}__stand", {}, progress_callback=on_progress))
            for name in family.names
        ]
        async with asyncio.timeout(PATIENCE):
            assert {await began.get() for _ in family.names} == {f"{name} waits" for name in family.names}
        wire.cut()
        wire.mend()
        opened = await call_all(client, family.names, "open")
        assert opened == [f"{name} opened" for name in family.names]
        async with asyncio.timeout(PATIENCE):
            assert [text(result) for result in await asyncio.gather(*standing)] == [
                f"{name} passed" for name in family.names
            ]
            assert {await began.get() for _ in family.names} == {f"{name} goes on" for name in family.names}


async def test_the_stream_goes_on_after_a_dropped_connection(family: Family, version: str, person: Person) -> None:
    """What servers say while the client is away is told when it comes back, once."""
    async with (
        Wire(family.gateway.local.port) as wire,
        person.client(f"http://localhost:{wire.port}/mcp") as client,
    ):
        await streaming(client, person, family.names)
        person.logs.clear()
        wire.cut()
        wire.mend()
        await call_all(client, family.names, "log", level="info", text="missed", own_stream=True)
        await person.until(lambda: len(person.logs) >= len(family.names))
        await call_all(client, family.names, "log", level="info", text="later", own_stream=True)
        await person.until(lambda: len(person.logs) >= 2 * len(family.names))
    assert sorted((log.logger, log.data) for log in person.logs) == sorted(
        (f"{name}/same", word) for name in family.names for word in ("missed", "later")
    )


# -- Servers that change, end and come back -----------------------------------------------------------------------------


@asynccontextmanager
async def running(name: str, port: int, directory: Path) -> AsyncIterator[None]:
    async with http_server(command(name, port), port, log=directory / f"{name}-{free_port()}.log"):
        yield


async def test_lists_change(tmp_path: Path, person: Person) -> None:
    """Only the second server grows: its tool, prompt and resource appear, under its name."""
    ports = {"first": free_port(), "second": free_port()}
    urls = {name: f"http://127.0.0.1:{port}/mcp" for name, port in ports.items()}
    async with (
        running("first", ports["first"], tmp_path),
        running("second", ports["second"], tmp_path),
        start_gateway(tmp_path, urls) as gateway,
        person.client(gateway.url) as client,
    ):
        await streaming(client, person, PAIR)
        assert await call(client, "second__grow") == "second grew"
        kinds = (ToolListChangedNotification, PromptListChangedNotification, ResourceListChangedNotification)
        await person.until(lambda: all(person.of(kind) for kind in kinds))
        grown = [tool.name for tool in (await client.list_tools()).tools if tool.name.endswith("grown")]
        assert grown == ["second__grown"]
        assert await call(client, "second__grown") == "second has grown"
        [prompt] = [prompt for prompt in (await client.list_prompts()).prompts if prompt.name.endswith("grown")]
        assert prompt.name == "second__grown"
        [resource] = [r for r in (await client.list_resources()).resources if r.name == "grown"]
        [content] = (await client.read_resource(resource.uri)).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "second has grown"


async def test_a_server_restarts_in_the_middle_of_a_session(tmp_path: Path, version: str, person: Person) -> None:
    """Its level, its subscriptions and its stream are restored; the other server notices nothing."""
    ports = {"first": free_port(), "second": free_port()}
    urls = {name: f"http://127.0.0.1:{port}/mcp" for name, port in ports.items()}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running("first", ports["first"], tmp_path))
        gateway = await stack.enter_async_context(start_gateway(tmp_path, urls))
        async with running("second", ports["second"], tmp_path):
            client = await stack.enter_async_context(person.client(gateway.url))
            await client.set_logging_level("error")
            [note] = [r.uri for r in (await client.list_resources()).resources if "second" in r.uri]
            await client.subscribe_resource(note)
            assert await call_all(client, PAIR, "who", n=1) == ["first: 1 (1)", "second: 1 (1)"]
        with pytest.raises(MCPError):
            await client.call_tool("second__who", {"n": 1})
        async with running("second", ports["second"], tmp_path):
            assert await call_all(client, PAIR, "who", n=2) == ["first: 2 (2)", "second: 2 (1)"]
            after = await seen(client, "second")
            assert (after["level"], after["subscriptions"]) == ("error", ["notes://shared"])
            person.logs.clear()
            await streaming(client, person, PAIR)
            await call(client, "second__touch")
            answers = await call_all(client, PAIR, "sample", prompt="again", own_stream=True)
            assert answers == [f"{name} heard: <{name} asks again>" for name in PAIR]
            await person.until(lambda: bool(person.of(ResourceUpdatedNotification)))
            assert {told.params.uri for told in person.of(ResourceUpdatedNotification)} == {note}


async def test_a_server_that_comes_late(tmp_path: Path, person: Person) -> None:
    """It was down at ``initialize``. When it is there the client is told, and its tools work."""
    ports = {"first": free_port(), "second": free_port()}
    urls = {name: f"http://127.0.0.1:{port}/mcp" for name, port in ports.items()}
    async with (
        running("first", ports["first"], tmp_path),
        start_gateway(tmp_path, urls) as gateway,
        person.client(gateway.url) as client,
    ):
        assert all(tool.name.startswith("first__") for tool in (await client.list_tools()).tools)
        async with running("second", ports["second"], tmp_path):
            await person.until(lambda: bool(person.of(ToolListChangedNotification)))
            assert "second__who" in {tool.name for tool in (await client.list_tools()).tools}
            assert (
                await call(client, "second__sample", prompt="hi", own_stream=False) == "second heard: <second asks hi>"
            )


# -- Foreign servers and clients ----------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["http", "stdio"])
async def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestGateway]:
    """Two servers on the Python SDK, and the reference server of the TypeScript SDK, at an address or as a command."""
    logs = tmp_path_factory.mktemp("mixed")
    ports = {name: free_port() for name in ("first", "second", "everything")}
    command = [node(), str(package("@modelcontextprotocol/server-everything") / "dist" / "index.js")]
    servers: dict[str, Any] = {name: f"http://localhost:{port}/mcp" for name, port in ports.items()}
    async with AsyncExitStack() as stack:
        for name in PAIR:
            await stack.enter_async_context(running(name, ports[name], logs))
        if request.param == "stdio":
            servers["everything"] = {"command": [*command, "stdio"]}
        else:
            server = http_server(
                [*command, "streamableHttp"],
                ports["everything"],
                log=logs / "everything.log",
                environment={"PORT": str(ports["everything"])},
            )
            await stack.enter_async_context(server)
        yield await stack.enter_async_context(start_gateway(logs, servers))


async def test_a_foreign_server_among_others(mixed: TestGateway, person: Person) -> None:
    async with person.client(mixed.url) as client:
        await everything.answers(client, "everything")
        await everything.asks(client, person, "everything")
        assert await call(client, "second__sample", prompt="x", own_stream=True) == "second heard: <second asks x>"


async def test_a_foreign_client(tmp_path: Path) -> None:
    """The client of the TypeScript SDK (tests/support/ts_client.mjs)."""
    ports = {name: free_port() for name in PAIR}
    urls = {name: f"http://127.0.0.1:{port}/mcp" for name, port in ports.items()}
    script = str(ROOT / "tests" / "support" / "ts_client.mjs")
    # The gateway asks once, and then the server asks on the same stream.
    vetting = {"servers": ["first"], "tools": ["sample"], "remember": "session"}
    async with (
        running("first", ports["first"], tmp_path),
        running("second", ports["second"], tmp_path),
        start_gateway(tmp_path, urls, vetting=[vetting]) as gateway,
    ):
        command = [node(), script, str(package("@modelcontextprotocol/sdk")), gateway.url]
        log = tmp_path / "client.log"
        async with program(command, log=log) as process, asyncio.timeout(PATIENCE):
            assert await process.wait() == 0, log.read_text()
    told = json.loads(log.read_text())
    ids = told.pop("ids")
    assert len(set(ids)) == len(ids) == 9
    assert {f"{name}__who" for name in PAIR} <= set(told.pop("tools"))
    assert told == {
        "version": "2025-11-25",
        "who": ["first: 1 (1)", "second: 1 (1)"],
        "progress": ["second at 1", "second at 2", "second at 3"],
        "prompts": ["first__greet", "second__greet"],
        "prompt": ["second greets you", "second+notes://shared"],
        "notes": ["first+notes://shared", "second+notes://shared"],
        "read": ["The note of first", "The note of second"],
        "completion": ["second greet who=A"],
        "sampled": [f"{name} heard: <{name} asks x>" for name in PAIR],
        "elicited": [f"{name} was told: accept {{'answer': '<{name}: x>'}}" for name in PAIR],
        "answered": "second answers nevertheless",
        "sampledOnStream": [f"{name} heard: <{name} asks y>" for name in PAIR],
        "roots": ["first: file:///home", "second: file:///home"],
        "changed": ["tools", "prompts", "resources"],
        "grown": ["second__grown"],
    }
