"""Prints the tools that a gateway offers: ``python examples/tools.py [URL]``."""

from __future__ import annotations

import asyncio
import sys

from mcp.client.client import Client


async def main(url: str) -> None:
    async with Client(url) as client:
        for tool in (await client.list_tools()).tools:
            print(f"{tool.name:24} {tool.description or ''}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:1975/mcp"))
