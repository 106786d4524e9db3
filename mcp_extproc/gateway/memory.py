"""What one worker remembers of sessions after their tokens were sealed. Nothing relies on it: another worker makes its own."""

from __future__ import annotations

from collections import OrderedDict

from mcp_extproc.gateway.decision import SessionRef
from mcp_extproc.mcp.sessions import UpstreamSession

_MAX_CHAIN = 64


class SessionMemory:
    """Late legs (sessions opened after ``initialize``) and ended sessions, both bounded; the oldest are forgotten first.

    Args:
        capacity: most entries of each kind.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._late: OrderedDict[tuple[str, str], UpstreamSession] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def current(self, ref: SessionRef) -> UpstreamSession | None:
        """The session to use now: the one in the token, or what replaced it, or ``None`` where none was opened yet."""
        if not self._late:
            return ref.known
        session, anchor = ref.known, ref.anchor
        # A server may restart more than once: each replacement is found under the id that it replaced.
        for _ in range(_MAX_CHAIN):
            late = self._late.get((ref.server, anchor))
            if late is None:
                break
            session = late
            if late.id is None or late.id == anchor:
                break
            anchor = late.id
        return session

    def replace(self, server: str, anchor: str, session: UpstreamSession) -> None:
        """Remember a session opened late, under what it replaces."""
        self._late[server, anchor] = session
        self._late.move_to_end((server, anchor))
        if len(self._late) > self._capacity:
            self._late.popitem(last=False)

    def forget(self, server: str, anchor: str) -> UpstreamSession | None:
        """A session opened late turned out to be no better than what it replaced. Returns it, if it was remembered."""
        return self._late.pop((server, anchor), None)

    def end(self, session_id: str) -> None:
        """A client ended its session: from now on its token gets 404 here."""
        self._ended[session_id] = None
        if len(self._ended) > self._capacity:
            self._ended.popitem(last=False)

    def has_ended(self, session_id: str) -> bool:
        """Whether the client ended this session (at this worker)."""
        return session_id in self._ended
