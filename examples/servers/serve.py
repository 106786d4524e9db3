"""How the sample servers serve: Streamable HTTP on a port of this machine."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer


def serve(server: MCPServer[Any], default_port: int) -> None:
    """Serve until SIGINT or SIGTERM. Prints the URL as soon as clients can connect."""
    parser = argparse.ArgumentParser(description=f"The sample MCP server {server.name}.")
    parser.add_argument("--port", type=int, default=default_port, help="on 127.0.0.1; 0 takes a free one")
    port = parser.parse_args().port
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        sys.exit(f"error: the sample server {server.name} cannot listen on 127.0.0.1:{port}: {why}")
    with listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        config = uvicorn.Config(server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])
