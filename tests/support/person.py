"""Who sits in front of the client of the official SDK.

The SDK warns of what only older versions of the protocol have: tests ignore its ``MCPDeprecationWarning``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.client import ClientRequestContext
from mcp.client.client import Client
from mcp_types import (
    CallToolResult,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitRequestURLParams,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotificationParams,
    Root,
    TextContent,
)

from tests.support.waiting import PATIENCE


class Person:
    """Who sits in front of the client: answers servers, and notes what they say."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str]] = []
        """Ids and texts of servers' requests."""
        self.urls: list[tuple[str, str | None]] = []
        self.logs: list[LoggingMessageNotificationParams] = []
        self.notifications: list[Any] = []
        self.roots = ["file:///home"]
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self._news = asyncio.Event()

    def client(self, url: str) -> Client:
        return Client(
            url,
            mode="legacy",
            cache=None,
            sampling_callback=self._sample,
            elicitation_callback=self._elicit,
            list_roots_callback=self._roots,
            logging_callback=self._log,
            message_handler=self._note,
        )

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not happened():
                self._news.clear()
                await self._news.wait()

    def of(self, kind: type[Any]) -> list[Any]:
        """The notifications of a kind so far."""
        return [notification for notification in self.notifications if isinstance(notification, kind)]

    async def _answering(self, context: ClientRequestContext, text: str) -> None:
        self.asked.append((context.request_id, text))
        self._news.set()
        if self.before_answer is not None:
            await self.before_answer()

    async def _sample(self, context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult:
        text = ""
        for message in params.messages:
            assert isinstance(message.content, TextContent)
            text += message.content.text
        await self._answering(context, text)
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text=f"<{text}>"), model="test")

    async def _elicit(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        await self._answering(context, params.message)
        if isinstance(params, ElicitRequestURLParams):
            self.urls.append((params.url, params.elicitation_id))
            return ElicitResult(action="accept")
        asked = params.requested_schema
        fields = asked.get("required") or asked["properties"]
        return ElicitResult(action="accept", content=dict.fromkeys(fields, f"<{params.message}>"))

    async def _roots(self, context: ClientRequestContext) -> ListRootsResult:
        await self._answering(context, "roots")
        return ListRootsResult(roots=[Root(uri=uri) for uri in self.roots])

    async def _log(self, params: LoggingMessageNotificationParams) -> None:
        self.logs.append(params)
        self._news.set()

    async def _note(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        self.notifications.append(message)
        self._news.set()


def text(result: CallToolResult) -> str:
    [block] = result.content
    assert isinstance(block, TextContent), block
    assert not result.is_error, block.text
    return block.text


async def call(client: Client, name: str, /, **arguments: Any) -> str:
    return text(await client.call_tool(name, arguments))
