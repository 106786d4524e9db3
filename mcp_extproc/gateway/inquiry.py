"""One request of a client, with all that is known of it."""

from __future__ import annotations

import msgspec

from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.request import RequestContext, RequestHead, Subject, context_of
from mcp_extproc.gateway.services import Services
from mcp_extproc.mcp.envelope import Request


class Inquiry(msgspec.Struct, frozen=True):
    """A request that is to be decided."""

    head: RequestHead
    request: Request
    caller: Caller
    services: Services
    facts: RequestFacts
    now: float
    """Unix time in seconds."""

    @property
    def subject(self) -> Subject | None:
        """Whose token is exchanged for it."""
        return self.caller.catalog.subject(self.head)

    @property
    def context(self) -> RequestContext:
        """For what is done for its sake."""
        return context_of(self.head, self.request.id, self.caller.carried, self.subject)

    def knowing(self, facts: RequestFacts) -> Inquiry:
        """The same request, with these facts."""
        return msgspec.structs.replace(self, facts=facts)
