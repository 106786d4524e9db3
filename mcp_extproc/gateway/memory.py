"""What one worker remembers of sessions after their tokens were sealed. Nothing relies on it: another worker makes its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, assert_never

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.gateway.authorization.items import Hints
from mcp_extproc.gateway.credentials import session_of
from mcp_extproc.gateway.effects import (
    BeginSession,
    EndSession,
    MemoryEffect,
    RememberListed,
    RememberOwners,
    SetLevel,
    SpendConsent,
    Subscribe,
    Unsubscribe,
)
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.mcp.sessions import UpstreamSession

_MAX_CHAIN = 64
_MAX_SUBSCRIPTIONS = 1000
_MAX_SUBSCRIPTION_BYTES = 256 * 1024
"""Of one session with one server."""

_MAX_CONSENTS = 1000
"""Of one session: further ones are asked for each time."""

_MAX_BYTES = 64 * MIB
"""Of each kind of things that vary in size."""

_ENTRY_BYTES: Final = 512
"""About what an entry holds besides the texts of strangers."""


@dataclass(slots=True)
class Settings:
    """What a client set at one server for its whole session; sent again to a server that lost the session."""

    level: str | None = None
    """Log level."""
    subscriptions: dict[str, None] = field(default_factory=dict)
    """URIs as the server knows them."""

    @property
    def size(self) -> int:
        """About how many bytes they hold."""
        return _ENTRY_BYTES + sum(_uri_size(uri) for uri in self.subscriptions)

    def subscribe(self, uri: str) -> None:
        """One more URI. The oldest are forgotten where there are too many."""
        self.subscriptions[uri] = None
        size = self.size - _ENTRY_BYTES
        while len(self.subscriptions) > _MAX_SUBSCRIPTIONS or size > _MAX_SUBSCRIPTION_BYTES:
            oldest = next(iter(self.subscriptions))
            del self.subscriptions[oldest]
            size -= _uri_size(oldest)


class Listing(NamedTuple):
    """What a server listed."""

    names: Mapping[str, Hints]
    """With annotations."""
    at: float
    """Unix time in seconds."""
    size: int
    """About how many bytes it holds."""
    edition: int
    """The same as long as the names are, and never again."""


class ExpiredSession(NamedTuple):
    """A client's session that has expired."""

    name: str
    version: str | None
    """Of the protocol; ``None`` where there is no server."""
    upstreams: tuple[tuple[str, UpstreamSession], ...]
    """Servers, and its sessions with them."""


class SessionMemory:
    """Late legs (sessions opened after ``initialize``), settings and ended sessions; all bounded, the oldest forgotten first.

    Args:
        capacity: most entries of each kind.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._late: Bounded[tuple[str, str], UpstreamSession] = Bounded(capacity, _MAX_BYTES)
        self._begun: Bounded[str, tuple[float, tuple[SessionRef, ...]]] = Bounded(capacity, _MAX_BYTES)
        self._ended: Bounded[str, bool] = Bounded(capacity, _MAX_BYTES)
        self._ended_at: Bounded[tuple[str, str], bool] = Bounded(capacity, _MAX_BYTES)
        """Sessions with servers that ended with the client's, by server and anchor."""
        self._settings: Bounded[tuple[str, str], Settings] = Bounded(capacity, _MAX_BYTES)
        self._levels: Bounded[str, str] = Bounded(capacity, _MAX_BYTES)
        self._owners: Bounded[tuple[str, str], tuple[float, Mapping[str, str]]] = Bounded(
            min(capacity, 1000), _MAX_BYTES
        )
        self._listed: Bounded[str, dict[tuple[str, str], Listing]] = Bounded(min(capacity, 8192), _MAX_BYTES)
        self._editions = count()
        self._consents: Bounded[str, frozenset[tuple[str, str]]] = Bounded(min(capacity, 8192), _MAX_BYTES)
        """By session: servers and tools."""
        self._spent: Bounded[tuple[str, bytes], bool] = Bounded(capacity, _MAX_BYTES)
        self._running: Bounded[tuple[str, bytes], tuple[int, float]] = Bounded(capacity, _MAX_BYTES)

    def apply(self, effect: MemoryEffect) -> None:
        """Remember what a decision changed."""
        match effect:
            case BeginSession():
                self.begin(effect.caller, effect.expires, effect.servers)
            case EndSession():
                self.end(effect.caller, effect.servers)
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
            case RememberListed():
                self.remember_listed(effect.caller, effect.kind, effect.listed, effect.at)
            case SpendConsent():
                self._spent.keep((effect.caller, effect.question), value=True, size=_ENTRY_BYTES)
            case _:
                assert_never(effect)

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
        if session.id is not None and session.id != anchor:
            self._is_new(server, session.id)
        self._late.keep((server, anchor), session, _ENTRY_BYTES + len(anchor) + len(session.id or ""))
        self._ended_at.pop((server, session.id or anchor))
        self._move_settings(server, anchor, session.id or anchor)

    def _is_new(self, server: str, id: str) -> None:
        """A server has opened a session under an id. Some servers count, and begin anew when they restart: what is known of an
        earlier session of that id is another client's."""
        self._late.pop((server, id))
        self._settings.pop((server, id))
        self._ended_at.pop((server, id))

    def forget(self, server: str, anchor: str) -> UpstreamSession | None:
        """A session opened late turned out to be no better than what it replaced, which gets the settings back. Returns it, if
        it was remembered."""
        useless = self._late.pop((server, anchor))
        if useless is not None:
            self._move_settings(server, useless.id or anchor, anchor)
        return useless

    def _move_settings(self, server: str, anchor: str, new: str) -> None:
        settings = self._settings.pop((server, anchor))
        if settings is not None:
            self._settings.keep((server, new), settings, settings.size)

    # -- Settings -------------------------------------------------------------------------------------------------------

    def settings(self, server: str, anchor: str) -> Settings | None:
        """What to send a server again."""
        return self._settings.get((server, anchor))

    def set_level(self, ref: SessionRef, level: str) -> None:
        """A client set its log level."""
        settings = self._settings_of(ref)
        settings.level = level
        self._keep(ref, settings)

    def subscribe(self, ref: SessionRef, uri: str) -> None:
        """A client subscribed to a resource."""
        settings = self._settings_of(ref)
        settings.subscribe(uri)
        self._keep(ref, settings)

    def is_subscribed(self, ref: SessionRef, uri: str) -> bool:
        """Whether a client subscribed to a resource before."""
        return uri in self._settings_of(ref).subscriptions

    def unsubscribe(self, ref: SessionRef, uri: str) -> None:
        """A client ended a subscription."""
        settings = self._settings_of(ref)
        settings.subscriptions.pop(uri, None)
        self._keep(ref, settings)

    def _settings_of(self, ref: SessionRef) -> Settings:
        return self._settings.get((ref.server, self._current(ref)[1])) or Settings()

    def _keep(self, ref: SessionRef, settings: Settings) -> None:
        self._settings.keep((ref.server, self._current(ref)[1]), settings, settings.size)

    # -- Client sessions ------------------------------------------------------------------------------------------------

    def begin(self, session_id: str, expires: float, servers: tuple[SessionRef, ...]) -> None:
        """A client's session began here, for it to be ended at these servers when nobody can use it any more."""
        size = sum(_ENTRY_BYTES + len(ref.anchor) for ref in servers)
        self._begun.keep(session_id, (expires, servers), _ENTRY_BYTES + size)
        for ref in servers:
            self._is_new(ref.server, ref.anchor)

    @property
    def begun(self) -> int:
        """How many clients' sessions began here, and neither ended here nor have expired."""
        return len(self._begun)

    def expired(self, now: float) -> list[ExpiredSession]:
        """The clients' sessions that began here and have expired since this was asked last. They are forgotten here. All last
        for the same time, so the oldest expire first."""
        found = []
        while (oldest := next(iter(self._begun), None)) is not None:
            begun = self._begun.get(oldest)
            if begun is None or begun[0] > now:
                break
            current = [(ref, self.current(ref)) for ref in begun[1]]
            sessions = tuple((ref.server, session) for ref, session in current if session is not None)
            version = begun[1][0].version if begun[1] else None
            found.append(ExpiredSession(oldest, version, sessions))
            self.end(oldest, begun[1])
        return found

    def end(self, session_id: str, servers: Iterable[SessionRef] = ()) -> None:
        """A client ended its session: from now on its token gets 404 here, and what it set at these servers is forgotten.

        Args:
            session_id: the session, or the key of a caller in it.
            servers: with their sessions.
        """
        session_id = session_of(session_id)
        self._ended.keep(session_id, value=True, size=_ENTRY_BYTES)
        self._begun.pop(session_id)
        self._levels.pop(session_id)
        self._consents.pop(session_id)
        self.forget_owners(session_id)
        for ref in servers:
            key = (ref.server, self._current(ref)[1])
            self._settings.pop(key)
            self._ended_at.keep(key, value=True, size=_ENTRY_BYTES + len(key[1]))

    def is_over(self, ref: SessionRef) -> bool:
        """Whether the client that has a session with a server ended its own (at this worker). A request that Envoy sends again
        does not name it, but the session with the server."""
        if ref.client:
            return self.has_ended(ref.client)
        return (ref.server, self._current(ref)[1]) in self._ended_at

    def has_ended(self, session_id: str) -> bool:
        """Whether the client ended this session, or that of this caller (at this worker)."""
        return session_of(session_id) in self._ended

    def remember_level(self, session_id: str, level: str) -> None:
        """Log messages below this level are not passed on, to whatever caller of the session."""
        self._levels.keep(session_of(session_id), level, _ENTRY_BYTES)

    def level(self, session_id: str) -> str | None:
        """The client's log level, if it set one."""
        return self._levels.get(session_of(session_id))

    # -- Who has what -----------------------------------------------------------------------------------------------------

    def owners(self, session_id: str, kind: str, now: float) -> Mapping[str, str] | None:
        """Names or URIs that exactly one server has, by its name; ``None`` where that is not known (any more)."""
        found = self._owners.get((session_id, kind))
        return found[1] if found is not None and now < found[0] else None

    def last_owners(self, session_id: str, kind: str) -> Mapping[str, str] | None:
        """The same as it was known last, which may be long ago; ``None`` where it never was, or a list has changed since."""
        found = self._owners.get((session_id, kind))
        return None if found is None else found[1]

    def remember_owners(self, session_id: str, kind: str, owners: Mapping[str, str], until: float) -> None:
        """Remember who has what, until a Unix time in seconds."""
        size = _ENTRY_BYTES + sum(_uri_size(name) for name in owners)
        self._owners.keep((session_id, kind), (until, owners), size)

    def forget_owners(self, session_id: str) -> None:
        """A list changed."""
        for key in [key for key in self._owners if key[0] == session_id]:
            self._owners.pop(key)
        self._listed.pop(session_id)

    def listed(self, session_id: str, kind: str, server: str) -> Listing | None:
        """What a server listed last; ``None`` where that is not known (any more)."""
        found = self._listed.get(session_id)
        return None if found is None else found.get((kind, server))

    def remember_listed(self, session_id: str, kind: str, listed: Mapping[str, Mapping[str, Hints]], at: float) -> None:
        """Remember what servers listed. It stays until they list something else, or say that they would.

        Args:
            session_id: of the client.
            kind: method of the list.
            listed: by server.
            at: Unix time in seconds.
        """
        known = self._listed.get(session_id) or {}
        found = dict(known)
        for server, names in listed.items():
            before = known.get((kind, server))
            # Mostly the very same: merged lists are kept.
            if before is not None and before.names is names:
                found[kind, server] = before._replace(at=at)
            else:
                found[kind, server] = Listing(names, at, _names_size(names), next(self._editions))
        self._listed.keep(session_id, found, _ENTRY_BYTES + sum(listing.size for listing in found.values()))

    # -- Consent ----------------------------------------------------------------------------------------------------------

    def remember_consent(self, session_id: str, server: str, tool: str) -> None:
        """A user consents to further calls of a tool, for as long as the session lasts."""
        known = self._consents.get(session_id) or frozenset()
        if len(known) < _MAX_CONSENTS and not self.has_ended(session_id):
            consents = known | {(server, tool)}
            size = _ENTRY_BYTES + sum(_uri_size(name) for _, name in consents)
            self._consents.keep(session_id, consents, size)

    def has_consent(self, session_id: str, server: str, tool: str) -> bool:
        """Whether a user consented to calls of a tool for the rest of the session."""
        known = self._consents.get(session_id)
        return known is not None and (server, tool) in known

    def is_spent(self, session_id: str, question: bytes) -> bool:
        """Whether the call that a user consented to has run."""
        return (session_id, question) in self._spent

    # -- Requests under way -----------------------------------------------------------------------------------------------

    def started(self, session_id: str, progress_token: bytes, until: float) -> None:
        """A request that wants progress was forwarded.

        Args:
            session_id: of the client.
            progress_token: JSON text.
            until: Unix time in seconds. The end of a request whose response is not read is not known: then it counts as over.
        """
        count, latest = self._running.get((session_id, progress_token)) or (0, until)
        size = _ENTRY_BYTES + len(progress_token)
        self._running.keep((session_id, progress_token), (count + 1, max(latest, until)), size)

    def goes_on(self, session_id: str, progress_token: bytes, until: float) -> None:
        """It is still under way."""
        known = self._running.get((session_id, progress_token))
        if known is not None:
            size = _ENTRY_BYTES + len(progress_token)
            self._running.keep((session_id, progress_token), (known[0], max(known[1], until)), size)

    def finished(self, session_id: str, progress_token: bytes) -> None:
        """It is over."""
        count, until = self._running.pop((session_id, progress_token)) or (0, 0.0)
        if count > 1:
            self._running.keep((session_id, progress_token), (count - 1, until), _ENTRY_BYTES + len(progress_token))

    def forget_finished(self, now: float) -> None:
        """Requests that can't be under way any more."""
        for key in [key for key in self._running if (known := self._running.get(key)) is not None and known[1] <= now]:
            self._running.pop(key)

    def is_running(self, session_id: str, progress_token: bytes) -> bool:
        """Whether a request with this token is under way at this worker."""
        return (session_id, progress_token) in self._running


def _uri_size(uri: str) -> int:
    return 128 + len(uri)


def _names_size(names: Iterable[str]) -> int:
    return _ENTRY_BYTES + sum(map(_uri_size, names))
