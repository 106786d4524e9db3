"""One stdio server, as the bridge is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from mcp_extproc.config import GatewayConfig, Server

_PATIENCE = 0.8
"""Part of the deadline of ``initialize`` after which the bridge says itself that a server is still starting."""


class StdioServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server's command, and what its children may have. It travels over a pipe, as it holds secrets."""

    command: tuple[str, ...]
    env: dict[str, str]
    """It wins over all other variables."""
    env_file: str | None
    """Absolute."""
    cwd: str | None
    """Absolute."""
    inherit_env: tuple[str, ...]
    sharing: Literal["session", "shared"]
    max_processes: int
    start_timeout: float
    """Seconds from the start of a child to its answer to ``initialize``."""
    answer_within: float
    """Seconds after which an ``initialize`` is told that the child is still starting."""
    idle_timeout: float
    """Seconds."""
    request_bytes: int
    event_bytes: int

    def __repr__(self) -> str:
        """Without arguments and variables: both hold API keys."""
        return f"StdioServer({self.command[0]!r})"


class Told(msgspec.Struct, frozen=True):
    """What the supervisor tells the bridge: all stdio servers, by name."""

    servers: dict[str, StdioServer]


def stdio_servers(config: GatewayConfig, folder: Path) -> Mapping[str, StdioServer]:
    """The stdio servers of a configuration.

    Args:
        config: the whole configuration.
        folder: of its file; relative paths start there.
    """
    return {
        name: _spec(server, config, folder) for name, server in config.servers.items() if server.command is not None
    }


def _spec(server: Server, config: GatewayConfig, folder: Path) -> StdioServer:
    assert server.command is not None
    return StdioServer(
        command=tuple(word.get_secret_value() for word in server.command),
        env={name: value.get_secret_value() for name, value in server.env.items()},
        env_file=None if server.env_file is None else str((folder / server.env_file).absolute()),
        cwd=None if server.cwd is None else str((folder / server.cwd).absolute()),
        inherit_env=server.inherit_env,
        sharing=server.sharing,
        max_processes=server.max_processes,
        start_timeout=server.start_timeout,
        answer_within=min(server.start_timeout, server.discovery_timeout * _PATIENCE),
        idle_timeout=server.child_idle_timeout,
        request_bytes=config.limits.request_bytes,
        event_bytes=config.limits.event_bytes,
    )
