"""The tools of the benchmark's MCP server, without a transport: what it answers, as little work as possible.

`echo` returns its argument `text` and the length of its argument `content` as JSON, so that a client can check that a large
request arrived completely, while responses stay small; with an argument `result`, so many characters follow. `count` answers
with progress notifications, then the result: as many messages as it is asked for. Further tools are only listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import orjson

ECHO = "echo"
COUNT = "count"

EVENTS = 100
"""Most messages with which `count` answers; the last one is the result."""

_LINE = 'def echo(text: str) -> str:\n    return "said: " + text  # \u00e4\n'
"""The padding is source code: agents send and get it in bulk, and every line has something to escape."""

_Json = dict[str, Any]


def tool_names(count: int) -> tuple[str, ...]:
    """Tool names of a server with this many tools."""
    return (ECHO, COUNT, *(f"search_records_{number}" for number in range(count - 2)))


@lru_cache(maxsize=8)
def padding(characters: int) -> str:
    """Text of this length."""
    return (_LINE * (characters // len(_LINE) + 1))[:characters]


def answer_text(text: str, content: str, result: int = 0) -> str:
    """The result of `echo`."""
    return f"{text}:{len(content)}" + (padding(result) if result else "")


class Tools:
    """Methods of MCP.

    Args:
        count: number of tools, at least 2.
        resources: whether there are resources, too: none of them is ever asked for.
    """

    def __init__(self, count: int = 2, *, resources: bool = False) -> None:
        capabilities: _Json = {"tools": {}} | ({"resources": {}} if resources else {})
        listed = [_tool(name) for name in tool_names(count)]
        self._methods: dict[str, Callable[[_Json], _Json]] = {
            "initialize": lambda params: _initialized(params, capabilities),
            "ping": lambda _: {},
            "tools/list": lambda _: {"tools": listed},
            "tools/call": _call,
        }

    def answer(self, request: _Json) -> bytes:
        """The response to any request but a call of `count`."""
        method = self._methods.get(request["method"])
        if method is None:
            return error(request["id"], -32601, f"unknown method {request['method']}")
        try:
            result = method(request.get("params", {}))
        except KeyError as missing:
            return error(request["id"], -32602, f"unknown tool or missing argument {missing}")
        return orjson.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result})


def counts(request: _Json) -> bool:
    """Whether a request is a call of `count`."""
    return bool(request["method"] == "tools/call" and request["params"]["name"] == COUNT)


def counted(request: _Json) -> Iterator[bytes]:
    """The messages with which `count` answers."""
    params = request["params"]
    count = params["arguments"]["events"]
    progress = {"progressToken": params.get("_meta", {}).get("progressToken"), "total": count}
    for done in range(1, count):
        about = {**progress, "progress": done, "message": f"{done} of {count} records read"}
        yield orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": about})
    content = [{"type": "text", "text": answer_text(params["arguments"]["text"], "")}]
    yield orjson.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"content": content, "isError": False}})


def error(id: object, code: int, message: str) -> bytes:
    """A response that is an error."""
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})


# As long as the tools of well-known servers: 600 bytes, mostly descriptions of arguments.
SCHEMA: _Json = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "What to look for: words, or a phrase in quotation marks."},
        "content": {"type": "string", "description": "Anything else, as long as it needs to be."},
        "limit": {
            "type": "integer", "minimum": 1, "maximum": 100, "description": "How many to give at most. Default: 20.",
        },
        "order": {"type": "string", "enum": ["newest", "oldest", "best"], "description": "Which ones come first."},
    },
    "required": ["text"],
}  # fmt: skip
"""Of the arguments of every tool."""


def _tool(name: str) -> _Json:
    return {
        "name": name,
        "description": "Says what it was given. Use it when you need to see that a request arrived, and how much of it.",
        "inputSchema": SCHEMA,
    }


def _initialized(params: _Json, capabilities: _Json) -> _Json:
    return {
        "protocolVersion": params["protocolVersion"],
        "capabilities": capabilities,
        "serverInfo": {"name": "bench-upstream", "version": "1"},
    }


def _call(params: _Json) -> _Json:
    if params["name"] != ECHO:
        raise KeyError(params["name"])
    arguments = params["arguments"]
    text = answer_text(arguments["text"], arguments.get("content", ""), arguments.get("result", 0))
    return {"content": [{"type": "text", "text": text}], "isError": False}
