"""Plans: how a call is forwarded, kept for the next one like it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.authorization.rules import Access
from mcp_extproc.gateway.decision import ForwardPlan
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.tokens import Granted
from mcp_extproc.mcp.sessions import UpstreamSession

Changes = Mapping[str, bytes | None]
"""Members of ``params`` and their new JSON text; ``None`` takes one out."""


class CallPlan(msgspec.Struct, frozen=True, eq=False):
    """How one kind of request is forwarded to a server: all that does not depend on the request itself."""

    forward: ForwardPlan
    ref: SessionRef
    session: UpstreamSession
    """With the server."""
    changes: Changes
    reads_json: bool
    """Whether the response is read also if it is JSON."""
    wants_plain_text: bool
    """Whether the server is asked for a response that is not compressed."""
    item: Item
    """What is used."""
    granted: Granted | None = None
    """The token that the server gets for the caller's."""
    edition: int | None = None
    """Of the server's list by which rules permitted it; ``None`` where what they say differs from request to request."""


Kind = tuple[str, str, str | None, tuple[str | None, ...], bool, Access | None]
"""Requests of a kind are forwarded alike. Key of the caller, method, the client's name for what is called, the form of the
client's head, whether policies come later, and what rules leave to the caller."""

_MAX_PLANS = 8192
_MAX_BYTES = 32 * MIB
_PLAN_BYTES = 2048
"""About what a plan holds besides the texts of its kind."""
_MAX_KIND_CHARS = 4096


class Plans(Bounded[Kind, CallPlan]):
    """The plans of calls that were forwarded, for the next ones like them."""

    def __init__(self) -> None:
        super().__init__(_MAX_PLANS, _MAX_BYTES)

    def remember(self, kind: Kind, plan: CallPlan) -> None:
        """Keep a plan, unless its key is larger than any honest client's."""
        _, _, name, form, *_ = kind
        chars = len(name or "") + sum(len(part or "") for part in form)
        if chars <= _MAX_KIND_CHARS:
            # The name is in headers and facts, too.
            self.keep(kind, plan, _PLAN_BYTES + 4 * chars)
