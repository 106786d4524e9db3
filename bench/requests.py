"""Requests of the load client, and the expected responses.

Requests are prepared except for the id. Ids are unique and, if possible, also part of the response's content, so that a
response to the wrong call is detected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import orjson

from bench.errors import BenchError
from bench.http1 import Message
from bench.slices import Order
from bench.tools import EVENTS, SCHEMA, answer_text, padding

FIRST_ID = 100_000_000
"""All ids have the same number of digits, so that the length of a request is known in advance."""

_ID = "%d"
"""Placeholder for the id."""

_Json = dict[str, Any]


class Request(ABC):
    """A request, complete except for its id.

    Args:
        order: the slice.
        method: of MCP.
        params: of the method. Each ``%d`` in its strings becomes the id.
    """

    def __init__(self, order: Order, method: str, params: Mapping[str, Any]) -> None:
        body = b'{"jsonrpc":"2.0","id":%%d,"method":"%s","params":%s}' % (method.encode(), orjson.dumps(params))
        parts = body.split(_ID.encode())
        length = sum(map(len, parts)) + (len(parts) - 1) * len(str(FIRST_ID))
        headers = {
            "host": f"127.0.0.1:{order.port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(length),
        }
        self._head = b"POST /mcp HTTP/1.1\r\n" + header_lines(headers)
        self._start, *self._rest = parts

    def with_id(self, id: int, session: bytes) -> bytes:
        """The bytes of the request with this id, in the session of these header lines."""
        start = b"%s%s\r\n%s" % (self._head, session, self._start)
        return (b"%d" % id).join((start, *self._rest))

    def line(self, id: int) -> bytes:
        """The request with this id as a line of the stdio transport."""
        return (b"%d" % id).join((self._start, *self._rest)) + b"\n"

    def check(self, id: int, answer: Message) -> None:
        """Raises BenchError unless the response has the right status, id and content."""
        expected = self.expected(id)
        try:
            if answer.status == 200 and self.found(id, answer.body) == expected:
                return
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            pass
        raise BenchError(
            f"a wrong answer to the call with id {id}: expected the content {expected!r:.500}, "
            f"got status {answer.status} and {answer.body[:500]!r}"
        )

    @abstractmethod
    def expected(self, id: int) -> object:
        """The expected content."""

    @abstractmethod
    def found(self, id: int, body: bytes) -> object:
        """The actual content. Raises orjson's errors, KeyError, TypeError or AttributeError if it has another shape."""


class Echo(Request):
    """A tools/call of `echo`."""

    def __init__(self, order: Order, tool: str) -> None:
        self._content, self._result = padding(order.content), order.result
        arguments: _Json = {"text": _ID} | ({"content": self._content} if order.content else {})
        if order.result:
            arguments["result"] = order.result
        super().__init__(order, "tools/call", {"name": tool, "arguments": arguments})

    def expected(self, id: int) -> object:
        """The text."""
        return _content(id, self._content, self._result)

    def found(self, id: int, body: bytes) -> object:
        """The text."""
        return _result(id, _messages(body)[-1])["content"]


class Count(Request):
    """A tools/call of `count`, with an event stream as the response. With one event there is no progress."""

    def __init__(self, order: Order, tool: str, events: int) -> None:
        self._events = events
        params: _Json = {"name": tool, "arguments": {"text": _ID, "events": events}}
        if events > 1:
            params["_meta"] = {"progressToken": _ID}
        super().__init__(order, "tools/call", params)

    def expected(self, id: int) -> object:
        """Every notification, in order, and the text."""
        return [*((str(id), done) for done in range(1, self._events)), _content(id, "")]

    def found(self, id: int, body: bytes) -> object:
        """The same, as received."""
        *before, last = _messages(body)
        progress = [message["params"] for message in before]
        return [
            *((each["progressToken"], each["progress"]) for each in progress),
            _result(id, last)["content"],
        ]


class List(Request):
    """A tools/list."""

    def __init__(self, order: Order) -> None:
        self._tools = [(name, SCHEMA) for name in sorted(order.tools)]
        super().__init__(order, "tools/list", {})

    def expected(self, id: int) -> object:  # noqa: ARG002 - no place for it in a list
        """All names, in any order, each with its schema."""
        return self._tools

    def found(self, id: int, body: bytes) -> object:
        """The same, as received."""
        tools = _result(id, _messages(body)[-1])["tools"]
        return sorted(((tool["name"], tool["inputSchema"]) for tool in tools), key=itemgetter(0))


def requests(order: Order) -> list[Request]:
    """The requests of a slice, in turn."""
    match order.kind:
        case "echo":
            return [Echo(order, tool) for tool in order.tools]
        case "event":
            return [Count(order, tool, 1) for tool in order.tools]
        case "events":
            return [Count(order, tool, EVENTS) for tool in order.tools]
        case "list":
            return [List(order)]


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Headers in HTTP/1.1 format."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def _messages(body: bytes) -> list[_Json]:
    """Of an event stream, or the one that is the body; at least one. Raises orjson's errors.

    A gateway may choose. Events without data open a stream (Streamable HTTP of 2025-11-25).
    """
    if body.startswith(b"{"):
        return [orjson.loads(body)]
    data = [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]
    return [orjson.loads(each) for each in data if each] or [orjson.loads(body)]


def _content(id: int, content: str, result: int = 0) -> list[_Json]:
    return [{"type": "text", "text": answer_text(str(id), content, result)}]


def _result(id: int, message: _Json) -> _Json:
    if message["id"] != id:
        raise KeyError(id)
    result: _Json = message["result"]
    return result
