"""An HTTP exchange that is only inspected (:mod:`mcp_extproc.gateway.policy.inspect`): Envoy's messages in, responses
out. Sans-IO.

The contract is that of :class:`mcp_extproc.extproc.exchange.Exchange`, so transports drive both in the same way. Envoy has
a separate filter for it (:mod:`mcp_extproc.envoy.attach.pass_through`), which sends no responses.
"""

from __future__ import annotations

import logging

from mcp_extproc.config import GatewayConfig
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.detail import Detail
from mcp_extproc.gateway.policy import inspect
from mcp_extproc.gateway.policy.inspect import Pass, ReadBody, Refusal
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import errors
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.counters import Counters

_LOG = log.logger("pass_through")


class Unordered(Exception):
    """Envoy sent a message that the pass-through filter's configuration rules out."""


class PassThroughExchange:
    """One ext_proc stream.

    Args:
        config: the whole configuration.
        detail: how much is written into the metadata.
        counters: counts events.
    """

    def __init__(self, config: GatewayConfig, detail: Detail, counters: Counters) -> None:
        self._config = config
        self._detail = detail
        self._counters = counters
        self._head: RequestHead | None = None
        self.decided = False
        self.is_over = False

    def receive(self, raw: bytes) -> list[bytes]:
        """Respond to one message from Envoy.

        Args:
            raw: a serialized ``ProcessingRequest``.

        Raises:
            Unreadable: it is not a valid message. The stream can only be ended.
            Unordered: the message is not allowed in this state. As after any other exception, send the result of
                :meth:`fail`.
        """
        message = messages.read(raw)
        match message.WhichOneof("request"):
            case "request_headers" if self._head is None and not self.decided:
                return self._on_head(message.request_headers)
            case "request_body" if self._head is not None and not self.decided:
                return self._on_body(self._head, message.request_body)
            case "request_body" if self.decided and not message.request_body.body:
                # Envoy may repeat the end of a body (envoyproxy/envoy#46237); it expects no second response.
                return []
            case "request_trailers" if self.decided:
                return [messages.GO_ON["request_trailers"]]
            case kind:
                raise Unordered(kind or "message of no known kind")

    def fail(self) -> list[bytes]:
        """The responses that end an exchange after an internal error.

        Empty if that is not possible, because the decision was already sent or creating the error failed, too. Then the
        stream has to end with a status other than OK.
        """
        if self.decided:
            return []
        error = errors.McpError(
            errors.INTERNAL_ERROR,
            "The gateway failed to read this request; its log says why.",
            reason="internal",
            status=500,
        )
        try:
            return [self._answer(inspect.refuse(error, {}), messages.IN_ANSWER_TO_HEAD)]
        except Exception:  # noqa: BLE001 - the caller already handles one
            _LOG.exception("apology_failed")
            return []

    def closed(self) -> None:
        """The HTTP exchange is over, ended by either side."""

    def _on_head(self, headers: pb.HttpHeaders) -> list[bytes]:
        self._head = head = messages.read_head(headers)
        decision = inspect.by_head(head, has_body=not headers.end_of_stream, config=self._config)
        if isinstance(decision, ReadBody):
            if not headers.end_of_stream:
                return [messages.HOLD_ALL if decision.fits else messages.HOLD_WHAT_FITS]
            decision = inspect.by_body(head, b"", whole=True, config=self._config)
        return [self._answer(decision, messages.IN_ANSWER_TO_HEAD)]

    def _on_body(self, head: RequestHead, body: pb.HttpBody) -> list[bytes]:
        whole = inspect.is_whole(head, body.body, ends=body.end_of_stream)
        decision = inspect.by_body(head, body.body, whole=whole, config=self._config)
        return [self._answer(decision, messages.IN_ANSWER_TO_BODY)]

    def _answer(self, decision: Pass | Refusal, phase: int) -> bytes:
        if isinstance(decision, Pass):
            clear = self._config.pass_through.clear_route_cache
            answer = messages.let_pass(decision, phase, self._detail, clear_route_cache=clear)
        else:
            answer = messages.refuse_to_pass(decision, self._detail)
        self._tell(decision)
        # Last, because if something fails before, a response is still due.
        self.decided = True
        return answer

    def _tell(self, decision: Pass | Refusal) -> None:
        facts = decision.facts
        if isinstance(decision, Refusal):
            self._counters.add("mcp.rejected", reason=facts["error_reason"])
            event, why = "rejected", "error_reason"
        elif (reason := facts.get("passthrough_reason")) is not None:
            self._counters.add("mcp.passed_unread", reason=reason)
            event, why = "passed_unread", "passthrough_reason"
        else:
            self._counters.add("mcp.passed")
            return
        told = {name: facts[name] for name in (why, "http_method", "session") if name in facts}
        log.event(_LOG, logging.INFO, event, told)
