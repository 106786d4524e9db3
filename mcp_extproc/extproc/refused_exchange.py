"""A response with an HTTP status that is an error, and JSON in its body: the JSON-RPC error in it, if there is one, takes its
place. With 401 and 403 an error of ours does, which says what credentials were refused. Envoy has a filter of its own for such
responses (:mod:`mcp_extproc.envoy.render.refusals`).

Where nothing can be said about it, the response goes on as it is, and Envoy answers for the server: so that happens too where
no worker can be asked.
"""

from __future__ import annotations

from collections.abc import Callable

from mcp_extproc.contract import CONTENT_ENCODING, NAMESPACE, REFUSED_READS, SERVER_ERROR
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.relay import refused
from mcp_extproc.mcp import compression
from mcp_extproc.mcp.errors import RESOURCE_NOT_FOUND, McpError, render
from mcp_extproc.telemetry.counters import Counters


class RefusedExchange:
    """One ext_proc stream.

    Args:
        gateway: knows the servers.
        counters: of what happened.
        clock: Unix time in seconds.
    """

    def __init__(self, gateway: Gateway, counters: Counters, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._counters = counters
        self._clock = clock
        self._server: str | None = None
        self._id: bytes | None = None
        self._content_encoding = ""
        self._refused: int | None = None
        """The status, where it says that the credentials are not good."""
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
                self._note(message)
                self.decided = message.response_headers.end_of_stream
                return [self._without_body() if self.decided else messages.GO_ON["response_headers"]]
            case "response_body" if not self.decided:
                self.decided = True
                return [self._instead_of(message.response_body.body)]
            case "response_body" | "response_trailers" if self.decided:
                return [messages.GO_ON[message.WhichOneof("request") or ""]]
            case kind:
                raise messages.Unannounced(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The answers that end an exchange in which something of ours broke: none. It ends with a status that is not OK."""
        return []

    def closed(self) -> None:
        """The HTTP exchange is over."""

    def _note(self, message: pb.ProcessingRequest) -> None:
        """What the request was, as its metadata says."""
        self._content_encoding = messages.response_header(message, CONTENT_ENCODING)
        status = messages.response_header(message, ":status")
        self._refused = int(status) if status in ("401", "403") else None
        facts = message.metadata_context.filter_metadata.get(NAMESPACE)
        if facts is not None:
            server, id = (facts.fields[key].string_value if key in facts.fields else None for key in REFUSED_READS)
            self._server, self._id = server, None if id is None else id.encode()
        if self._refused is not None:
            self._counters.add("mcp.credentials_refused", server=self._server or "")
        if self._refused == 401 and self._server is not None:
            self._gateway.tokens.refused(None, self._server, self._clock())

    def _without_body(self) -> bytes:
        if self._refused is None or (entry := self._entry) is None or self._id is None or entry.passes_challenges:
            return messages.GO_ON["response_headers"]
        error = refused.credentials_refused(self._refused, b"", entry, self._id)
        return _told(error, has_body=False)

    @property
    def _entry(self) -> CatalogEntry | None:
        return None if self._server is None else self._gateway.servers.get(self._server)

    def _instead_of(self, body: bytes) -> bytes:
        if (entry := self._entry) is None or self._id is None:
            return messages.GO_ON["response_body"]
        if self._refused is not None:
            if entry.passes_challenges:
                return messages.GO_ON["response_body"]
            return _told(refused.credentials_refused(self._refused, self._text(body), entry, self._id))
        said = refused.error_in(self._text(body), entry, self._id)
        if said is None:
            return messages.GO_ON["response_body"]
        code, text = said
        if code == RESOURCE_NOT_FOUND and self._gateway.has_rules(self._server or ""):
            # Servers' own words for it would tell what is hidden.
            text = render(refusals.unknown_resource(None).about(self._id))
        self._counters.add("mcp.server_error", server=self._server or "")
        return messages.another_response(text, RequestFacts(error=(code, SERVER_ERROR)))

    def _text(self, body: bytes) -> bytes:
        # One byte more than is read: what is larger is seen to be. Where Envoy holds a part only, it is no JSON.
        return compression.beginning_of(body, self._content_encoding, refused.MAX_BODY_BYTES + 1)


def _told(error: McpError, *, has_body: bool = True) -> bytes:
    return messages.another_response(render(error), RequestFacts(error=(error.code, error.reason)), has_body=has_body)
