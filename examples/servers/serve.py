"""Serves the sample servers: Streamable HTTP on a port, by default of this machine only."""

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
    parser.add_argument("--port", type=int, default=default_port, help="0 takes a free one")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; on others than loopback any Host is served"
    )
    arguments = parser.parse_args()
    host, port = arguments.host, arguments.port
    try:
        listener = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        sys.exit(f"error: the sample server {server.name} cannot listen on {host}:{port}: {why}")
    with listener:
        print(f"http://{host}:{listener.getsockname()[1]}/mcp", flush=True)
        # For a loopback address the SDK checks the Host header itself.
        config = uvicorn.Config(server.streamable_http_app(host=host), log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])
