"""Plans: how a call is forwarded, kept for the next one like it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mcp_extproc.gateway.decision import ForwardPlan
from mcp_extproc.gateway.legs import SessionRef
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
    reads: bool
    """Whether the response has to be read if it is an event stream."""
    reads_json: bool
    """Whether it has to be read if it is JSON."""


Kind = tuple[str, str, str | None, tuple[str, ...], str | None]
"""Requests of a kind are forwarded alike. Key of the caller, method, the client's name for what is called, the names of the
client's headers, and its version header."""

_MAX_PLANS = 4096
_MAX_KIND_CHARS = 4096


class Plans(dict[Kind, CallPlan]):
    """The plans of calls that were forwarded, for the next ones like them. One too many, and all are made again as they
    come."""

    def remember(self, kind: Kind, plan: CallPlan) -> None:
        """Keep a plan, if it is not as large as only somebody would make it who wants us to keep it."""
        _, _, name, headers, _ = kind
        if len(name or "") + sum(map(len, headers)) <= _MAX_KIND_CHARS:
            if len(self) >= _MAX_PLANS:
                self.clear()
            self[kind] = plan
