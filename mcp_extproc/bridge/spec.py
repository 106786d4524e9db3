"""The servers behind the bridge, as it is told of them."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from mcp_extproc.bridge.backoff import LONGEST


class Bridged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all of them have. It travels over a pipe, as it holds secrets."""

    most_of: ClassVar[str]
    """What :attr:`most` is a number of, and the key of the configuration that sets it."""
    descriptors: ClassVar[int]
    """Files that are open for each of them."""

    authority: str
    """``Host`` of requests to it."""
    sharing: Literal["session", "shared"] = "session"
    most: int
    """Most children, or connections, at a time."""
    start_timeout: float
    """Seconds from the start of a child, or of a connection, to its answer to ``initialize``."""
    answer_within: float
    """Seconds after which an ``initialize`` is told that it is still starting."""
    lent_after: float
    """Seconds after which what a server asks during a list may go to its stream. Less than a list may take, and mostly enough
    for a client to open a stream of its own."""
    idle_timeout: float
    """Seconds."""
    request_bytes: int
    event_bytes: int
    timeout_key: str = "start_timeout"
    """The key of the configuration that sets ``start_timeout``."""
    spares: int = 0
    """How many are started before anybody asks."""
    doubted_within: float | None = None
    """As ``answer_within`` where the start before failed, whose cause is known then. Default: no other."""
    longest_pause: float = 0.0
    """Most seconds until the next start after failed ones."""


class StdioServer(Bridged, frozen=True, kw_only=True):
    """A server's command, and what its children may have."""

    most_of = "processes in use (max_processes)"
    descriptors = 4
    """Three pipes, and what tells of its end."""

    command: tuple[str, ...]
    secret_words: tuple[str, ...]
    """Those in the command that may be secrets."""
    arguments_apart: str | None = None
    """How to write the command, where its first word holds arguments, too."""
    env: dict[str, str | None]
    """It wins over all other variables. ``None`` takes one away."""
    env_file: str | None
    """Absolute."""
    cwd: str | None
    """Absolute."""
    inherit_env: tuple[str, ...]
    spares: int = 1
    longest_pause: float = LONGEST

    def __repr__(self) -> str:
        """Without arguments and variables: both hold API keys."""
        return f"StdioServer({self.command[0]!r})"


class SseServer(Bridged, frozen=True, kw_only=True):
    """Where an HTTP+SSE server is reached."""

    most_of = "connections in use (max_sessions)"
    descriptors = 2
    """The event stream, and one POST. Further ones have places of their own."""

    upstreams: str
    """Address of Envoy's private listener, through which it is reached."""
    path: str
    """Path and query of its event stream."""
    origins: tuple[str, ...]
    """``scheme://host:port`` of each replica: where its endpoint for messages may be."""
    headers: tuple[tuple[str, str], ...]
    """Sent with each request."""
    timeout: float
    """Seconds that the server may have a request open without an answer."""

    def __repr__(self) -> str:
        """Without path and headers: both hold API keys."""
        return f"SseServer({self.origins!r})"


class Told(msgspec.Struct, frozen=True):
    """What the supervisor tells the bridge."""

    servers: dict[str, StdioServer | SseServer]
    """All, by name."""
    held_bytes: int
    """Most bytes of messages that it holds, of all servers and sessions together."""
