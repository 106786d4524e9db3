"""An HTTP+SSE (2024-11-05) server on the official SDK: ``python -m tests.support.sse_server NAME PORT [CERTIFICATE KEY]``."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send


class Confirmation(BaseModel):
    """What the client is asked for."""

    ok: bool


class Connections:
    """Counts the open event streams of an application.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_stream = scope["type"] == "http" and scope["method"] == "GET"
        self.open += is_stream
        try:
            await self._app(scope, receive, send)
        finally:
            self.open -= is_stream


def build(name: str) -> Connections:
    """The server, which says ``name`` in whatever it answers."""
    server: MCPServer[Any] = MCPServer(name, instructions=f"I am {name}.", log_level="CRITICAL")
    app = Connections(server.sse_app())

    @server.tool()
    def add(a: int, b: int) -> str:
        """Add two integers."""
        return f"{name}: {a + b}"

    @server.tool()
    def connections() -> int:
        """How many event streams are open."""
        return app.open

    @server.tool()
    def received(header: str, ctx: Context[Any, Any]) -> str:
        """A header of the message that called this."""
        return str((ctx.headers or {}).get(header))

    @server.tool()
    async def count(to: int, ctx: Context[Any, Any]) -> str:
        """Count with progress."""
        for step in range(to):
            await ctx.report_progress(step + 1, to, f"step {step + 1}")
        return f"{name} counted to {to}"

    @server.tool()
    async def confirm(ctx: Context[Any, Any]) -> str:
        """Ask the user."""
        answer = await ctx.elicit("Really?", Confirmation)
        return f"{name}: {answer.action}"

    @server.tool()
    async def wait() -> str:
        """Never answer."""
        await anyio.sleep_forever()
        return ""

    return app


def main() -> None:
    name, port, *tls = sys.argv[1:]
    certificate, key = tls or (None, None)
    uvicorn.run(
        build(name), host="127.0.0.1", port=int(port), log_level="warning", ssl_certfile=certificate, ssl_keyfile=key
    )  # fmt: skip


if __name__ == "__main__":
    main()
