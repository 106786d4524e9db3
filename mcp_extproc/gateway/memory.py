"""What one worker remembers of sessions after their tokens were sealed. Nothing relies on it: another worker makes its own."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mcp_extproc.gateway.effects import (
    Effect,
    EndSession,
    RememberOwners,
    SetLevel,
    Subscribe,
    Unsubscribe,
)
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.mcp.sessions import UpstreamSession

_MAX_CHAIN = 64
_MAX_SUBSCRIPTIONS = 1000

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Bounded(OrderedDict[_K, _V], Generic[_K, _V]):
    """A dictionary that forgets its oldest entries."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._capacity:
            self.popitem(last=False)


@dataclass(slots=True)
class Settings:
    """What a client asked of one server for its whole session; told again to a server that lost it."""

    level: str | None = None
    """Log level."""
    subscriptions: dict[str, None] = field(default_factory=dict)
    """URIs as the server knows them."""


class SessionMemory:
    """Late legs (sessions opened after ``initialize``), settings and ended sessions; all bounded, the oldest forgotten first.

    Args:
        capacity: most entries of each kind.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._late: _Bounded[tuple[str, str], UpstreamSession] = _Bounded(capacity)
        self._ended: _Bounded[str, None] = _Bounded(capacity)
        self._settings: _Bounded[tuple[str, str], Settings] = _Bounded(capacity)
        self._levels: _Bounded[str, str] = _Bounded(capacity)
        self._owners: _Bounded[tuple[str, str], tuple[float, Mapping[str, str]]] = _Bounded(min(capacity, 1000))
        self._running: Counter[tuple[str, bytes]] = Counter()

    def apply(self, effect: Effect) -> None:
        """Remember what a decision changed. What is none of memory's business is left alone."""
        match effect:
            case EndSession():
                self.end(effect.caller)
            case SetLevel():
                for session in effect.servers:
                    self.set_level(session, effect.level)
                self.remember_level(effect.caller, effect.level)
            case Subscribe():
                self.subscribe(effect.session, effect.uri)
            case Unsubscribe():
                self.unsubscribe(effect.session, effect.uri)
            case RememberOwners():
                self.remember_owners(effect.caller, effect.kind, effect.owners, effect.until)

    # -- Sessions with servers ------------------------------------------------------------------------------------------

    def current(self, ref: SessionRef) -> UpstreamSession | None:
        """The session to use now: the one in the token, or what replaced it, or ``None`` where none was opened yet."""
        return self._current(ref)[0]

    def _current(self, ref: SessionRef) -> tuple[UpstreamSession | None, str]:
        session, anchor = ref.known, ref.anchor
        if not self._late:
            return session, anchor
        # A server may restart more than once: each replacement is found under the id that it replaced.
        for _ in range(_MAX_CHAIN):
            late = self._late.get((ref.server, anchor))
            if late is None:
                break
            session = late
            if late.id is None or late.id == anchor:
                break
            anchor = late.id
        return session, anchor

    def replace(self, server: str, anchor: str, session: UpstreamSession) -> None:
        """Remember a session opened late, under what it replaces. It inherits the settings."""
        self._late[server, anchor] = session
        settings = self._settings.pop((server, anchor), None)
        if settings is not None:
            self._settings[server, session.id or anchor] = settings

    def forget(self, server: str, anchor: str) -> UpstreamSession | None:
        """A session opened late turned out to be no better than what it replaced, which gets the settings back. Returns it, if
        it was remembered."""
        useless = self._late.pop((server, anchor), None)
        if useless is not None:
            settings = self._settings.pop((server, useless.id or anchor), None)
            if settings is not None:
                self._settings[server, anchor] = settings
        return useless

    # -- Settings -------------------------------------------------------------------------------------------------------

    def settings(self, server: str, anchor: str) -> Settings | None:
        """What to tell a server again."""
        return self._settings.get((server, anchor))

    def set_level(self, ref: SessionRef, level: str) -> None:
        """A client set its log level."""
        self._settings_of(ref).level = level

    def subscribe(self, ref: SessionRef, uri: str) -> None:
        """A client subscribed to a resource."""
        subscriptions = self._settings_of(ref).subscriptions
        subscriptions[uri] = None
        if len(subscriptions) > _MAX_SUBSCRIPTIONS:
            del subscriptions[next(iter(subscriptions))]

    def unsubscribe(self, ref: SessionRef, uri: str) -> None:
        """A client ended a subscription."""
        self._settings_of(ref).subscriptions.pop(uri, None)

    def _settings_of(self, ref: SessionRef) -> Settings:
        key = (ref.server, self._current(ref)[1])
        settings = self._settings.get(key) or Settings()
        self._settings[key] = settings
        return settings

    # -- Client sessions ------------------------------------------------------------------------------------------------

    def end(self, session_id: str) -> None:
        """A client ended its session: from now on its token gets 404 here."""
        self._ended[session_id] = None

    def has_ended(self, session_id: str) -> bool:
        """Whether the client ended this session (at this worker)."""
        return session_id in self._ended

    def remember_level(self, session_id: str, level: str) -> None:
        """Log messages below this level are not passed on."""
        self._levels[session_id] = level

    def level(self, session_id: str) -> str | None:
        """The client's log level, if it set one."""
        return self._levels.get(session_id)

    # -- Who has what -----------------------------------------------------------------------------------------------------

    def owners(self, session_id: str, kind: str, now: float) -> Mapping[str, str] | None:
        """Names or URIs that exactly one server has, by its name; ``None`` where that is not known (any more)."""
        until, owners = self._owners.get((session_id, kind), (0.0, None))
        return owners if now < until else None

    def remember_owners(self, session_id: str, kind: str, owners: Mapping[str, str], until: float) -> None:
        """Remember who has what, until a Unix time in seconds."""
        self._owners[session_id, kind] = (until, owners)

    def forget_owners(self, session_id: str) -> None:
        """A list changed."""
        for key in [key for key in self._owners if key[0] == session_id]:
            del self._owners[key]

    # -- Requests under way -----------------------------------------------------------------------------------------------

    def started(self, session_id: str, progress_token: bytes) -> None:
        """A request that wants progress was forwarded."""
        self._running[session_id, progress_token] += 1

    def finished(self, session_id: str, progress_token: bytes) -> None:
        """It is over."""
        self._running[session_id, progress_token] -= 1
        if self._running[session_id, progress_token] <= 0:
            del self._running[session_id, progress_token]

    def is_running(self, session_id: str, progress_token: bytes) -> bool:
        """Whether a request with this token is under way at this worker."""
        return (session_id, progress_token) in self._running
