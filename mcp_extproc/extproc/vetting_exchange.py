"""A call whose user is asked before it runs: Envoy's messages in, an event stream out. Sans-IO but for the work it hands back.

The contract is that of :class:`mcp_extproc.extproc.exchange.Exchange`. The filter is behind the policies, and sends the whole
request as a stream (FULL_DUPLEX_STREAMED): Envoy holds nothing of it then, and takes an event stream for an answer. It waits
for that without a time limit, so nothing here may take long before the head is out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mcp_extproc.contract import CALL_KEY, VETTING_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.detail import Detail
from mcp_extproc.extproc.shared import Answers, Shared
from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.facts import NOTHING
from mcp_extproc.gateway.principal import ANONYMOUS
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests.vetted import VettedCall


class VettingExchange:
    """One ext_proc stream.

    Args:
        processor: shared by all exchanges of a worker.
        detail: how much is written into the metadata.
    """

    def __init__(self, processor: Shared, detail: Detail) -> None:
        self._processor = processor
        self._detail = detail
        self._head: RequestHead | None = None
        self._told = ""
        self._body: list[bytes] = []
        self._has_begun = False
        self.decided = False
        self.is_over = False

    def receive(self, raw: bytes) -> Answers:
        """Answer one message of Envoy's. The next one may be given only after all answers to this one were taken.

        Args:
            raw: a serialized ``ProcessingRequest``.

        Raises:
            Unreadable: it is none. The stream can only be ended.
            Unannounced: a message that is not due. As after any other exception, send what :meth:`fail` returns.
        """
        raw, metadata = messages.without_metadata(raw)
        message = messages.read(raw)
        match message.WhichOneof("request"):
            case "request_headers" if self._head is None:
                return self._on_head(message, metadata)
            case "request_body" if self._head is not None and not self._has_begun:
                self._body.append(message.request_body.body)
                return self._begun() if message.request_body.end_of_stream else []
            case "request_trailers" if self._head is not None and not self._has_begun:
                return self._begun()
            case "request_body" | "request_trailers" if self._has_begun:
                return []
            case kind:
                raise messages.Unannounced(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The answers that end an exchange in which something of ours broke. Empty where none can be given, as the head of the
        answer is out: then the stream has to end with a status that is not OK."""
        if self.decided:
            return []
        self.decided = self.is_over = True
        return [messages.reply(replies.reject(refusals.broken(), NOTHING), self._detail)]

    def closed(self) -> None:
        """The HTTP exchange is over. To be called once."""

    def _on_head(self, message: pb.ProcessingRequest, metadata: bytes) -> Answers:
        self._head = messages.read_head(message.request_headers, ANONYMOUS)  # who calls decides nothing any more
        self._told = messages.text_in(messages.read_metadata(metadata), VETTING_NAMESPACE, CALL_KEY)
        return self._begun() if message.request_headers.end_of_stream else []

    def _begun(self) -> AsyncGenerator[bytes, None]:
        assert self._head is not None
        self._has_begun = True
        body, self._body = b"".join(self._body), []
        return self._stream(self._processor.gateway.vetted(self._head, self._told, body))

    async def _stream(self, call: VettedCall) -> AsyncGenerator[bytes, None]:
        head = messages.stream_head(NOTHING, self._detail)
        async with self._processor.vetted.open(call) as stream:
            # Last: until here something may break, and the answer is still owed.
            self.decided = True
            yield head
            async for chunk in stream.chunks:
                yield messages.stream_chunk(chunk)
            if "consent" in stream.facts:
                self._processor.counters.add("mcp.vetted", consent=str(stream.facts["consent"]))
            self.is_over = True
            yield messages.stream_end(stream.facts, self._detail)
