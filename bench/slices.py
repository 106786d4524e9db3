"""Orders from the parent to the load client, and their results. One JSON object a line, each way."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["echo", "event", "events", "list"]
"""The kind of request: a tools/call with a JSON response or an event stream of one or more events, or tools/list."""

ENOUGH_FOR_P99 = 1000
"""Calls."""

SERVER = "server"
"""Name of the MCP server's clock, where what it costs differs between the systems."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of load on one system."""

    port: int
    """The system's MCP endpoint is http://127.0.0.1:port/mcp."""
    command: tuple[str, ...] = ()
    """Instead of an endpoint: a stdio server, of which the client has a child of its own for each session."""
    sessions: tuple[dict[str, str], ...]
    """Headers of the sessions, each on its own keep-alive connection with one call at a time."""
    credentials: tuple[dict[str, str], ...] = ()
    """More headers, which the requests of all sessions have in turn, each the next ones."""
    kind: Kind
    tools: tuple[str, ...]
    """Called in turn, or for a list: all names that must be in it."""
    content: int
    """Characters of padding in each call's arguments. With 0 a call is about 120 bytes."""
    result: int = 0
    """Characters of padding in each call's result."""
    warm_up: int
    """Calls of each connection before the clocks are read, to open Envoy's connections and fill caches."""
    seconds: float
    clocks: dict[str, tuple[int, ...]]
    """Process ids whose CPU is read before and after the slice, by their names in the result. The client adds its own
    children, as `SERVER`."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a slice."""

    calls: int
    seconds: float
    """From the first call to the last response."""
    p50: float
    """Median latency in seconds."""
    p99: float | None
    """Only of at least :data:`ENOUGH_FOR_P99` calls: of fewer it would be that of the slowest ten at most."""
    cpu: dict[str, float]
    """Seconds of CPU, user and system, of each of the order's clocks."""
    client_cpu: float
    """Seconds of CPU of the load client itself."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An unusable slice: a response was wrong or missing."""

    error: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line from the client: exactly one of the two."""

    result: Result | None = None
    failure: Failure | None = None
