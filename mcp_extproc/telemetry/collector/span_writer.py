"""Spans on their way to who gets them: encoded as soon as they are there, as bytes wait in less room."""

from __future__ import annotations

from mcp_extproc.telemetry import spans
from mcp_extproc.telemetry.collector import otlp
from mcp_extproc.telemetry.collector.sender import Sender
from mcp_extproc.telemetry.exchange import Peer
from mcp_extproc.telemetry.spans import Shared, Span


class SpanWriter:
    """What is made of them, and of parts of them (:class:`.known_lines.Spans`).

    Args:
        sender: sends them.
    """

    def __init__(self, sender: Sender) -> None:
        self._put = sender.put
        self.of_both = otlp.of_both

    def take(self, span: Span) -> None:
        """Have one sent."""
        self._put(otlp.item(otlp.span(span)))

    def shared(self, found: Shared) -> bytes:
        """What spans of a kind have in common."""
        return otlp.shared(found)

    def who(self, session: str | None, client: Peer | None) -> bytes:
        """For whom they are, and from where."""
        return otlp.who(spans.who(session, client))

    def send(self, spans: bytes, count: int) -> None:
        """Have some sent that were made of pieces."""
        self._put(spans, count)
