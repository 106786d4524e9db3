"""A call that waits for its user's consent: how the user is asked, what runs then, and what is answered otherwise.

With consent the very bytes that the user was shown pass Envoy once more, as a message of a batch does: credentials, rules and
policies are judged anew, so that what is denied by then does not run. What says that there was consent names the call by its
digest.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp_extproc.contract import CONSENT_HEADER, VIRTUAL_SERVER_HEADER
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.legs import BatchLeg, Outcome
from mcp_extproc.gateway.relay.identifiers import Asked, Consent, Identifiers, digest_of
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests import batches
from mcp_extproc.gateway.vetting import question
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.gateway.vetting.told import Told
from mcp_extproc.mcp import envelope, errors
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError


@dataclass(frozen=True, slots=True)
class VettedCall:
    """One such call."""

    told: Told
    """What the worker that decided about it said."""
    request: Request
    """As the client sent it, but for what no server gets."""
    head: RequestHead
    identifiers: Identifiers

    @property
    def holder(self) -> str:
        """Who has to share what is held of it."""
        return self.told.holder or self.told.caller

    def question(self, asked: Asked) -> tuple[str, bytes]:
        """The id of the question, and the question itself."""
        id = self.identifiers.question_id(self.told.caller, asked)
        arguments = self.request.params.get("arguments")
        text = None if arguments is None else bytes(arguments)
        return id, question.elicitation(id, self.told.server, self.told.tool, text)

    def run(self, asked: Asked | None) -> BatchLeg:
        """What runs it.

        Args:
            asked: the question that the user answered with consent; ``None`` where nobody was asked yet.

        Raises:
            McpError: it can't be sent.
        """
        marks = self.told.identity if self.told.mark is None else (*self.told.identity, self.told.mark)
        if self.told.endpoint:
            marks = (*marks, (VIRTUAL_SERVER_HEADER, self.told.endpoint))
        if asked is not None:
            told = self.told
            consent = Consent(digest_of(self.request.body), told.server, told.tool, asked.question)
            marks = (*marks, (CONSENT_HEADER, self.identifiers.consent(told.caller, consent)))
        return batches.leg(self.head, self.request.body, marks)

    def refusal(self, verdict: Verdict) -> McpError:
        """The error where there is no consent."""
        return refusals.not_consented(verdict, self.told.server, self.told.tool).about(self.request.id)

    def too_large(self, most: int) -> McpError:
        """The error where its stream is longer than may be held, in bytes."""
        return refusals.stream_too_large(most).about(self.request.id)

    def answer(self, outcome: Outcome) -> bytes:
        """The response that came of it, where it was no event stream."""
        return batches.answer_to(self.request, outcome)


def read(head: RequestHead, told: Told, body: bytes, identifiers: Identifiers) -> VettedCall:
    """A call as the worker that asks about it got it.

    Args:
        head: of the request.
        told: by the worker that decided.
        body: as policies saw it: with the server's own name for the tool.
        identifiers: seals ids.

    Raises:
        McpError: it is none.
    """
    message = envelope.read(body)
    if not isinstance(message, Request):
        raise McpError(errors.INVALID_REQUEST, "Not a call.", reason="invalid_request", status=400)
    clients = envelope.read(message.rewritten({"name": told.name}))
    assert isinstance(clients, Request)
    return VettedCall(told, clients, head, identifiers)
