"""A response that may say that the server lost its session: it is marked if it does, and goes on to Envoy's retry policy.

Envoy has a filter of its own for such responses (:mod:`mcp_extproc.envoy.render.lost_sessions`), in the servers' clusters.
"""

from __future__ import annotations

from mcp_extproc.contract import RESPONSE_HEADERS
from mcp_extproc.extproc import messages
from mcp_extproc.gateway.relay import lost_sessions
from mcp_extproc.mcp import compression


class DoubtfulExchange:
    """One ext_proc stream."""

    def __init__(self) -> None:
        self._status = self._content_type = self._content_encoding = ""
        self.decided = False
        self.is_over = False

    def receive(self, raw: bytes) -> list[bytes]:
        """Answer one message of Envoy's.

        Args:
            raw: a serialized ``ProcessingRequest``.

        Raises:
            Unreadable: it is none. The stream can only be ended.
            Unannounced: a message that is not due.
        """
        message = messages.read(raw)
        match message.WhichOneof("request"):
            case "response_headers" if not self.decided:
                self._status, self._content_type, self._content_encoding = (
                    messages.response_header(message, name) for name in RESPONSE_HEADERS
                )
                if message.response_headers.end_of_stream:
                    return [self._verdict("response_headers", b"")]
                return [messages.GO_ON["response_headers"]]
            case "response_body" if not self.decided:
                return [self._verdict("response_body", message.response_body.body)]
            case "response_body" | "response_trailers" if self.decided:
                return [messages.GO_ON[message.WhichOneof("request") or ""]]
            case kind:
                raise messages.Unannounced(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The answers that end an exchange in which something of ours broke: none. It ends with a status that is not OK."""
        return []

    def closed(self) -> None:
        """The HTTP exchange is over."""

    def _verdict(self, kind: str, body: bytes) -> bytes:
        self.decided = True
        text = compression.beginning_of(body, self._content_encoding, lost_sessions.MAX_BODY_BYTES)
        is_lost = lost_sessions.is_lost(self._status, self._content_type, text)
        return messages.MARK_AS_LOST[kind] if is_lost else messages.GO_ON[kind]
