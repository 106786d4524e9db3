"""What a worker observes of what it does itself. Of clients' requests Envoy has records.

Here is the one who looks away, which workers have where nothing is collected; the other one is
:class:`mcp_extproc.telemetry.accumulator.Accumulator`, which is not imported then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mcp_extproc.mcp.trace_context import SpanContext


@dataclass(frozen=True, slots=True)
class Sent:
    """A request of ours that is over, or a notification.

    Attributes:
        method: of MCP.
        server: to which it went.
        version: of the protocol; ``None`` where that is to be agreed on.
        start, end: nanoseconds since the epoch.
        error_type: what went wrong, by the conventions.
        parent: the span for whose sake it was sent; ``None`` where that is not kept.
        span: id of its own span, which the server was told.
    """

    method: str
    server: str
    version: str | None
    start: int
    end: int
    error_type: str | None
    parent: SpanContext | None
    span: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A caller's token that was exchanged for one of a server's, or not.

    Attributes:
        server: whose token it is.
        endpoint: host and port that were asked.
        start, end: nanoseconds since the epoch.
        error_type: what went wrong.
        parent: the span for whose sake it was asked for; ``None`` where that is not kept.
    """

    server: str
    endpoint: tuple[str, int | None]
    start: int
    end: int
    error_type: str | None
    parent: SpanContext | None


class Observer:
    """Looks away."""

    is_on: bool = False
    """Whether it looks. Where it does not, nothing has to be measured for it."""

    def new_span(self) -> str:
        """The id of a span."""
        return ""

    def sent(self, sent: Sent) -> None:
        """A request of ours, or a notification, is over."""

    def leg(self, server: str, purpose: str, error_type: str | None) -> None:
        """A leg of a fan-out is over.

        Args:
            server: that was asked; empty where none was chosen yet.
            purpose: in a word.
            error_type: why it failed.
        """

    def repaired(self, server: str, error_type: str | None) -> None:
        """A session that a server lost was opened again, or could not be."""

    def exchanged(self, exchanged: Exchanged) -> None:
        """A token endpoint was asked."""

    def expired(self, session: str, version: str | None, seconds: float) -> None:
        """A client's session has ended by itself.

        Args:
            session: its short name.
            version: of the protocol.
            seconds: how long it lasted.
        """


UNOBSERVED: Final = Observer()
