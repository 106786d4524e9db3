"""An MCP server on the official SDK, for end-to-end tests: ``python -m tests.support.sdk_server NAME PORT``."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer


def build(name: str) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer(name, instructions=f"Use {name} with care.", log_level="ERROR")

    @server.tool()
    def add(a: int, b: int) -> str:
        """Add two integers."""
        return f"{name}: {a + b}"

    @server.tool()
    def repeat(value: Any) -> dict[str, Any]:
        """Return what was given."""
        return {"value": value}

    @server.tool()
    def fail() -> str:
        """Always fail."""
        raise RuntimeError(f"{name} fails on purpose")

    @server.tool()
    async def count(to: int, ctx: Context[Any, Any]) -> str:
        """Count with progress."""
        for step in range(to):
            await ctx.report_progress(step + 1, to, f"step {step + 1}")
            await anyio.sleep(0.01)
        return f"{name} counted to {to}"

    return server


def main() -> None:
    name, port = sys.argv[1], int(sys.argv[2])
    uvicorn.run(build(name).streamable_http_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
