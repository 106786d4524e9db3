"""A server that answers everything with something that is no MCP: ``python -m tests.chaos.garbage PORT``."""

from __future__ import annotations

import asyncio
import itertools
import sys

_HTML = b"<html><body>It works!</body></html>"
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%s" % (len(_HTML), _HTML),
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_HTML), _HTML),
    b"HTTP/1.1 302 Found\r\nlocation: http://example.com/login\r\ncontent-length: 0\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"",
    b"HTTP/1.1 200 OK\r\ncontent-ty",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {"jsonrpc\n\ndata: []\n\n',
)


async def _serve(port: int) -> None:
    answers = itertools.cycle(_ANSWERS)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(next(answers))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
