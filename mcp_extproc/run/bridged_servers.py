"""What the bridge is told of a configuration's servers. It knows no configuration itself, and has none of its memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcp_extproc.address import Address
from mcp_extproc.bridge.spec import SseServer, StdioServer
from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.config.command_words import arguments_apart, secret_words
from mcp_extproc.gateway.catalog import headers_of, origins_of

_PATIENCE = 0.8
"""Part of the deadline of ``initialize`` after which the bridge says itself that a server is still starting."""

_DOUBTED_SECONDS = 1.0
"""How long a session waits for a program whose last start failed. Some take a minute to fail: ``npx`` offline."""

_LENT_AFTER_SECONDS = 3.0
"""For a client that listens to open its stream."""

_UNUSED_SECONDS = 600.0
"""After which a connection is closed that nobody uses."""


def stdio_servers(config: GatewayConfig, folder: Path) -> Mapping[str, StdioServer]:
    """The stdio servers of a configuration.

    Args:
        config: the whole configuration.
        folder: of its file; relative paths start there.
    """
    return {
        name: _spec(server, config, folder) for name, server in config.servers.items() if server.command is not None
    }


def sse_servers(config: GatewayConfig, upstreams: Address) -> Mapping[str, SseServer]:
    """The HTTP+SSE servers of a configuration.

    Args:
        config: the whole configuration.
        upstreams: Envoy's private listener.
    """
    return {
        name: SseServer(
            authority=server.authority,
            upstreams=str(upstreams),
            path=server.path_and_query,
            origins=tuple(sorted(origins_of(server))),
            headers=headers_of(server),
            most=server.max_sessions,
            timeout=server.timeout,
            start_timeout=server.discovery_timeout * _PATIENCE,
            timeout_key="discovery_timeout",
            answer_within=server.discovery_timeout * _PATIENCE,
            lent_after=_lent_after(server),
            idle_timeout=_UNUSED_SECONDS,
            request_bytes=config.limits.request_bytes,
            event_bytes=config.limits.event_bytes,
        )
        for name, server in config.servers.items()
        if server.transport == "sse"
    }


def _spec(server: Server, config: GatewayConfig, folder: Path) -> StdioServer:
    assert server.command is not None
    command = tuple(word.get_secret_value() for word in server.command)
    return StdioServer(
        authority=server.authority,
        command=command,
        secret_words=tuple(secret_words(command)),
        arguments_apart=arguments_apart(command),
        env={name: None if value is None else value.get_secret_value() for name, value in server.env.items()},
        env_file=None if server.env_file is None else str((folder / server.env_file).absolute()),
        cwd=None if server.cwd is None else str((folder / server.cwd).absolute()),
        inherit_env=server.inherit_env,
        sharing=server.sharing,
        most=server.max_processes,
        start_timeout=server.start_timeout,
        answer_within=min(server.start_timeout, server.discovery_timeout * _PATIENCE),
        doubted_within=_DOUBTED_SECONDS,
        lent_after=_lent_after(server),
        idle_timeout=server.child_idle_timeout,
        request_bytes=config.limits.request_bytes,
        event_bytes=config.limits.event_bytes,
    )


def _lent_after(server: Server) -> float:
    return min(_LENT_AFTER_SECONDS, server.discovery_timeout / 2)
