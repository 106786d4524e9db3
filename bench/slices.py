"""What the parent orders from the load client, and what it gets back. One JSON object a line, each way."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["echo", "events", "list"]
"""What is asked for: a tools/call answered in JSON or by an event stream, or tools/list."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of load on one system."""

    port: int
    """The system's MCP endpoint is http://127.0.0.1:port/mcp."""
    sessions: tuple[dict[str, str], ...]
    """Headers of the sessions, each with a connection of its own, kept alive with one call under way."""
    kind: Kind
    tools: tuple[str, ...]
    """Called in turn, or for a list: all that must be in it."""
    content: int
    """Characters of ballast in each call's arguments. With 0 a call is about 120 bytes."""
    warm_up: int
    """Calls of each connection before the clocks are read: Envoy opens its connections, caches fill."""
    seconds: float
    clocks: dict[str, tuple[int, ...]]
    """Process ids whose CPU is read at the slice's edges, by the name that the result has them under."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a slice gave."""

    calls: int
    seconds: float
    """From the first call to the last answer."""
    p50: float
    """Median latency in seconds."""
    p99: float
    cpu: dict[str, float]
    """Seconds of CPU, user and system, of each of the order's clocks."""
    client_cpu: float
    """Seconds of CPU of the load client itself."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that can't be used: an answer was wrong or missing."""

    error: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line from the client: exactly one of the two."""

    result: Result | None = None
    failure: Failure | None = None
