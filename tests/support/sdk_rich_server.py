"""An MCP server on the official SDK that uses all of the protocol: ``python -m tests.support.sdk_rich_server NAME PORT``.

Every such server has the same tools, prompts, URIs and elicitation ids, counts its requests and events from 1 in each
session, and says its name in whatever it answers: in a merged session, only who answers tells them apart.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import anyio
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.mcpserver import Context, MCPServer, UserMessage
from mcp.server.session import ServerSession
from mcp.server.streamable_http import EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CompleteRequestParams,
    CompleteResult,
    Completion,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    LoggingLevel,
    NotificationParams,
    PromptReference,
    ResourceLink,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.conformance.fixture.event_store import MemoryEventStore
from tests.conformance.fixture.pinned import pinned

NOTE = "notes://shared"
TEMPLATE = "notes://by/{topic}"
ELICITATION = "elicitation-1"

RETRY_MS = 50
"""What a client is told to wait before it opens a broken stream again."""


class State:
    """What one client session did here."""

    def __init__(self) -> None:
        self.calls = 0
        self.level: LoggingLevel | None = None
        self.subscriptions: set[str] = set()
        self.cancelled: list[str] = []
        self.roots_changed = 0
        self.gate = asyncio.Event()


class States(defaultdict[str, State]):
    """By session id."""

    def __init__(self) -> None:
        super().__init__(State)

    def of(self, ctx: ServerRequestContext[Any, Any]) -> State:
        assert ctx.request is not None
        return self[ctx.request.headers["mcp-session-id"]]


def build(name: str) -> MCPServer[Any]:
    """The server, which says ``name`` in whatever it answers."""
    server: MCPServer[Any] = MCPServer(name, instructions=f"I am {name}.", log_level="CRITICAL")
    states = States()
    _add_plain_tools(server, name, states)
    _add_asking_tools(server, name)
    _add_telling_tools(server, name, states)
    _add_waiting_tools(server, name, states)
    _add_prompts_and_resources(server, name)
    _add_handlers(server, name, states)
    low_level = server._lowlevel_server
    changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    low_level.create_initialization_options = partial(  # type: ignore[method-assign]
        low_level.create_initialization_options, changes
    )
    return server


def _add_plain_tools(server: MCPServer[Any], name: str, states: States) -> None:
    @server.tool()
    def who(n: int, ctx: Context[Any, Any]) -> str:
        """Who answers, and how often it did in this session."""
        state = states.of(ctx.request_context)
        state.calls += 1
        return f"{name}: {n} ({state.calls})"

    @server.tool(structured_output=False)
    def link() -> list[ResourceLink | EmbeddedResource]:
        """The note, linked and embedded."""
        return [ResourceLink(type="resource_link", name="note", uri=NOTE), _embedded(name)]

    @server.tool(structured_output=False)
    def seen(ctx: Context[Any, Any]) -> dict[str, Any]:
        """What this session did here."""
        state = states.of(ctx.request_context)
        return {
            "level": state.level,
            "subscriptions": sorted(state.subscriptions),
            "cancelled": state.cancelled,
            "roots_changed": state.roots_changed,
        }


def _add_asking_tools(server: MCPServer[Any], name: str) -> None:
    """Tools that ask the client. With ``own_stream`` on the stream of the GET and not on the call's."""

    @server.tool()
    async def sample(prompt: str, own_stream: bool, ctx: Context[Any, Any]) -> str:
        """Asks the client's model."""
        result = await ctx.session.create_message(
            messages=[SamplingMessage(role="user", content=TextContent(type="text", text=f"{name} asks {prompt}"))],
            max_tokens=10,
            related_request_id=await _related(ctx, own_stream),
        )
        assert isinstance(result.content, TextContent)
        return f"{name} heard: {result.content.text}"

    @server.tool()
    async def ask(question: str, own_stream: bool, ctx: Context[Any, Any]) -> str:
        """Asks the client's user, with a form."""
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        return _told(name, await _session(ctx).elicit_form(question, schema, await _related(ctx, own_stream)))

    @server.tool()
    async def visit(ctx: Context[Any, Any]) -> str:
        """Sends the client's user to a page, and says when they were there."""
        told = await _session(ctx).elicit_url(
            "Sign in", f"https://{name}.example/sign-in", ELICITATION, await _related(ctx, own_stream=False)
        )
        await _session(ctx).send_elicit_complete(ELICITATION)
        return _told(name, told)

    @server.tool()
    async def roots(ctx: Context[Any, Any]) -> str:
        """The client's roots."""
        await _related(ctx, own_stream=True)
        result = await ctx.session.list_roots()
        return f"{name}: {', '.join(str(root.uri) for root in result.roots)}"

    @server.tool()
    async def ping(ctx: Context[Any, Any]) -> str:
        """Pings the client."""
        await _related(ctx, own_stream=True)
        await ctx.session.send_ping()
        return f"{name}: pong"


def _add_telling_tools(server: MCPServer[Any], name: str, states: States) -> None:
    @server.tool(name="count")
    async def count_up(to: int, ctx: Context[Any, Any]) -> str:
        """Counts, and tells its progress."""
        for step in range(1, to + 1):
            await ctx.report_progress(step, to, f"{name} at {step}")
        return f"{name} counted"

    @server.tool()
    async def log(level: LoggingLevel, text: str, own_stream: bool, ctx: Context[Any, Any]) -> str:
        """Sends a log message."""
        await ctx.session.send_log_message(level, text, "same", await _related(ctx, own_stream))
        return f"{name} logged"

    @server.tool()
    async def touch(ctx: Context[Any, Any]) -> str:
        """Says that the note changed, if somebody wants to know."""
        for uri in sorted(states.of(ctx.request_context).subscriptions):
            await _related(ctx, own_stream=True)
            await ctx.session.send_resource_updated(uri)
        return f"{name} touched"

    @server.tool()
    async def grow(ctx: Context[Any, Any]) -> str:
        """Has one more tool, prompt and resource from now on."""

        def grown() -> str:
            """It was not there before."""
            return f"{name} has grown"

        server.add_tool(grown)
        server.prompt("grown")(grown)
        server.resource("notes://grown")(grown)
        await _related(ctx, own_stream=True)
        await ctx.session.send_tool_list_changed()
        await ctx.session.send_prompt_list_changed()
        await ctx.session.send_resource_list_changed()
        return f"{name} grew"


def _add_waiting_tools(server: MCPServer[Any], name: str, states: States) -> None:
    @server.tool()
    async def wait(key: str, ctx: Context[Any, Any]) -> str:
        """Says that it began, and goes on until it is cancelled."""
        await ctx.report_progress(0, 1, key)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            states.of(ctx.request_context).cancelled.append(key)
            raise
        raise AssertionError

    @server.tool()
    async def stand(ctx: Context[Any, Any]) -> str:
        """Says that it began, and waits until ``open`` is called."""
        await ctx.report_progress(0, 2, f"{name} waits")
        await states.of(ctx.request_context).gate.wait()
        await ctx.report_progress(1, 2, f"{name} goes on")
        return f"{name} passed"

    @server.tool(name="open")
    def open_gate(ctx: Context[Any, Any]) -> str:
        """Lets ``stand`` pass."""
        states.of(ctx.request_context).gate.set()
        return f"{name} opened"

    @server.tool()
    async def hang_up(ctx: Context[Any, Any]) -> str:
        """Closes the stream of its call before it answers (SEP-1699)."""
        await ctx.report_progress(1, 2, f"{name} hangs up")
        await ctx.close_sse_stream()
        await ctx.report_progress(2, 2, f"{name} is back")
        return f"{name} answers nevertheless"


def _add_prompts_and_resources(server: MCPServer[Any], name: str) -> None:
    @server.prompt()
    def greet(who: str) -> list[UserMessage]:
        """A greeting, and the note."""
        return [UserMessage(f"{name} greets {who}"), UserMessage(_embedded(name))]

    @server.resource(NOTE, mime_type="text/plain")
    def note() -> str:
        """The note."""
        return f"The note of {name}"

    @server.resource(TEMPLATE, mime_type="text/plain")
    def topic(topic: str) -> str:
        """A note about something."""
        return f"{name} on {topic}"


def _add_handlers(server: MCPServer[Any], name: str, states: States) -> None:
    """What the SDK's high-level server leaves to its low-level one."""

    async def complete(_: ServerRequestContext[Any, Any], params: CompleteRequestParams) -> CompleteResult:
        of = params.ref.name if isinstance(params.ref, PromptReference) else params.ref.uri
        values = [f"{name} {of} {params.argument.name}={params.argument.value}"]
        return CompleteResult(completion=Completion(values=values, total=1, has_more=False))

    async def set_level(ctx: ServerRequestContext[Any, Any], params: SetLevelRequestParams) -> EmptyResult:
        states.of(ctx).level = params.level
        return EmptyResult()

    async def subscribe(ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        states.of(ctx).subscriptions.add(params.uri)
        return EmptyResult()

    async def unsubscribe(ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        states.of(ctx).subscriptions.discard(params.uri)
        return EmptyResult()

    async def roots_changed(ctx: ServerRequestContext[Any, Any], _: NotificationParams) -> None:
        states.of(ctx).roots_changed += 1

    low_level = server._lowlevel_server
    low_level.add_request_handler("completion/complete", CompleteRequestParams, complete)
    low_level.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    low_level.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    low_level.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
    low_level.add_notification_handler("notifications/roots/list_changed", NotificationParams, roots_changed)


def _session(ctx: Context[Any, Any]) -> ServerSession:
    session: ServerSession = ctx.session
    return session


async def _related(ctx: Context[Any, Any], own_stream: bool) -> str | None:
    """The SDK sends what is related to a request on that request's stream, all else on the one of the GET, once it is open:
    clients open it beside their first calls, and what is sent before is lost."""
    if not own_stream:
        return str(ctx.request_id)
    request = ctx.request_context.request
    assert request is not None
    await _LISTENING[request.headers["mcp-session-id"]].wait()
    return None


def _told(name: str, result: ElicitResult) -> str:
    return f"{name} was told: {result.action} {result.content}"


def _embedded(name: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=NOTE, text=f"The note of {name}"))


# -- Workers ----------------------------------------------------------------------------------------------------------


class _Sessions(StreamableHTTPSessionManager):
    """Each session has an event store of its own, whose ids begin at 1."""

    @property
    def event_store(self) -> EventStore | None:
        return MemoryEventStore(count(1))

    @event_store.setter
    def event_store(self, _: EventStore | None) -> None:
        """The base class sets the one store it was given."""


_LISTENING: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""By session id: whether the stream of a GET was opened."""


class _Endpoint:
    def __init__(self, sessions: StreamableHTTPSessionManager) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                _LISTENING[Headers(scope=scope)["mcp-session-id"]].set()
            await send(message)

        await self._sessions.handle_request(scope, receive, watched if scope["method"] == "GET" else send)


def app(name: str, always: str | None = None) -> ASGIApp:
    """The server at ``/mcp``; with ``always`` it negotiates this version whatever a client proposes."""
    sessions = _Sessions(build(name)._lowlevel_server, retry_interval=RETRY_MS)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with sessions.run():
            yield

    application = Starlette(routes=[Route("/mcp", _Endpoint(sessions))], lifespan=lifespan)
    return pinned(application, always) if always else application


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.sdk_rich_server", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("--always", metavar="VERSION")
    arguments = parser.parse_args()
    # Streams of GETs stay open for as long as clients like: ending does not wait for them.
    uvicorn.run(
        app(arguments.name, arguments.always),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        timeout_graceful_shutdown=0,
    )


if __name__ == "__main__":
    main()
