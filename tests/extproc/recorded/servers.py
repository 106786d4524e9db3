"""The MCP servers behind the Envoy that is recorded: they answer in all ways in which an answer can reach the gateway."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.scripted import ScriptedServer, answer, echo, hang, tool

TOOLS = ("echo", "events", "asks", "big", "hang", "lose", "broken", "html", "cut")
"""What the server's tools do; :func:`_call` says how."""

SLOW_LIST_SECONDS = 0.03
"""That ``resources/list`` takes: long enough for clients to leave meanwhile."""

_FILLER = "All work and no play makes Jack a dull boy. "


@dataclass
class Quiet(ScriptedServer):
    """A server without streams of its own. It forgets what it was sent."""

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=405)
        response = await super()._serve(request)
        self.received.clear()
        return response


@dataclass
class Talkative(Quiet):
    """A server with sessions and every capability. Every other session begins with an event stream."""

    name: str = "alpha"
    capabilities: dict[str, Any] = field(
        default_factory=lambda: {
            "tools": {"listChanged": True},
            "prompts": {},
            "resources": {"subscribe": True},
            "logging": {},
            "completions": {},
        }
    )
    pages: list[list[dict[str, Any]]] = field(default_factory=lambda: [[tool(name)] for name in TOOLS[:4]])

    def __post_init__(self) -> None:
        prompt = {"name": "greet", "arguments": [{"name": "who"}]}
        resource = {"uri": "file:///readme", "name": "readme"}
        self.on |= {
            "prompts/list": _fixed({"prompts": [prompt]}),
            "prompts/get": _fixed({"messages": [{"role": "user", "content": {"type": "text", "text": "Hi"}}]}),
            "resources/list": _slowly(_fixed({"resources": [resource]})),
            "resources/templates/list": _fixed({"resourceTemplates": []}),
            "resources/read": _fixed({"contents": [{"uri": "file:///readme", "text": "Read me"}]}),
            "resources/subscribe": _fixed({}),
            "resources/unsubscribe": _fixed({}),
            "completion/complete": _fixed({"completion": {"values": ["a", "b"]}}),
            "logging/setLevel": _fixed({}),
            "tools/call": self._call,
        }

    def _initialize(self, message: dict[str, Any]) -> web.Response:
        self.begins_in_events = not self.begins_in_events
        return super()._initialize(message)

    async def _call(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        arguments = message["params"].get("arguments") or {}
        match message["params"]["name"]:
            case "events" | "asks" | "cut" as kind:
                return await _events(request, message, kind)
            case "big":
                text = _FILLER * (arguments.get("bytes", 1000) // len(_FILLER))
                return answer(message, result={"content": [{"type": "text", "text": text}]})
            case "hang":
                return await hang(request, message)
            case "lose" if request.headers.get("mcp-session-id") in self.sessions and "again" not in arguments:
                self.sessions.clear()
                return web.Response(status=404)
            case "broken":
                return web.json_response({"what": "broken"}, status=500)
            case "html":
                return web.Response(text="<p>Welcome", content_type="text/html")
        return echo(message)


async def _events(request: web.Request, message: dict[str, Any], kind: str) -> web.StreamResponse:
    token = (message["params"].get("_meta") or {}).get("progressToken", 0)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    said: list[dict[str, Any]] = [
        {"method": "notifications/progress", "params": {"progressToken": token, "progress": step}} for step in range(3)
    ]
    said.append({"method": "notifications/message", "params": {"level": "info", "data": "hello"}})
    if kind == "asks":
        said.append({"id": 7, "method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {}}})
        said.append({"id": 8, "method": "ping"})
    if kind != "cut":
        result = {"content": [{"type": "text", "text": "done"}]}
        said.append({"id": message["id"], "result": result})
    for number, one in enumerate(said):
        data = json.dumps({"jsonrpc": "2.0", **one})
        await response.write(f"id: {number}\ndata: {data}\n\n".encode())
        await asyncio.sleep(0.001)
    return response


def _fixed(result: dict[str, Any]) -> Any:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return answer(message, result=result)

    return handler


def _slowly(handler: Any) -> Any:
    async def slow(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(SLOW_LIST_SECONDS)
        response: web.StreamResponse = await handler(request, message)
        return response

    return slow
