"""Whoever gets spans: a separate process that takes what comes over OTLP/HTTP and looks at none of it.

    python -m bench.receiver FILE

listens on a free loopback port, prints it, and ends with its standard input. The file has the number of bytes that came.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web


def application(file: Path) -> web.Application:
    """Answers every request, and keeps count in a file."""
    came = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal came
        came += len(await request.read())
        file.write_text(f"{came}\n")
        return web.Response(content_type="application/x-protobuf")

    found = web.Application(client_max_size=64 << 20)
    found.router.add_post("/v1/{signal}", take)
    return found


async def serve(file: Path) -> None:
    """Serve until standard input ends."""
    runner = web.AppRunner(application(file), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
