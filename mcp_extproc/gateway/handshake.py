"""Callers of the versions with a handshake: each request belongs to a session that ``initialize`` began, and names it by its
token (2025-11-25 basic/transports, Session Management)."""

from __future__ import annotations

from functools import cached_property

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.gateway import credentials, refusals
from mcp_extproc.gateway.authorization.judging import Sight
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.endpoints import ServedEndpoint
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.legs import SessionRef, ref_to
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.gateway.relay.identifiers import ClientView
from mcp_extproc.gateway.relay.server_messages import Relay
from mcp_extproc.gateway.request import NOTHING_CARRIED, Carried, RequestHead
from mcp_extproc.gateway.services import Services
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.methods import LIST_CHANGED
from mcp_extproc.mcp.sessions import BadToken, OpenedSession, size_of

_SESSION_ID = "mcp-session-id"

_MAX_CALLERS = 8192
_MAX_CALLERS_BYTES = 32 * MIB


class HandshakeCaller:
    """The client of one session; implements :class:`mcp_extproc.gateway.caller.Caller`. Kept between its requests, for what is
    the same in all of them."""

    def __init__(
        self,
        services: Services,
        served: ServedEndpoint,
        opened: OpenedSession,
        principal: Principal = ANONYMOUS,
        carried: Carried = NOTHING_CARRIED,
    ) -> None:
        session = opened.session
        self.served = served
        self.services = services
        self.key = credentials.key_of(opened.id, carried)
        self.carried = carried
        self.principal = session.principal
        self.endpoint: Endpoint = served.endpoint
        self.catalog: Catalog = served.catalog
        self.access = None if served.rules is None else served.rules.of(principal)
        self.vetting = served.vetting
        self.follows = None if served.policies is None else served.policies.of(principal)
        self.view = ClientView(self.key, session.version, session.client_flags)
        sight = None if self.access is None else Sight(self.access, principal)
        self.relay = Relay(self.view, self.catalog, services.identifiers, services.memory, sight)
        self.expires: float = session.expires
        self.opened = opened
        self._who = principal
        self._memory: SessionMemory = services.memory
        self._refs: dict[str, SessionRef] = {}

    def is_still(self, served: ServedEndpoint, principal: Principal) -> bool:
        """Whether it may see and do the same as before. A session outlives a token: the next one may say something else."""
        if principal is self._who:
            return True
        access = None if served.rules is None else served.rules.of(principal)
        follows = None if served.policies is None else served.policies.of(principal)
        if access is not self.access or follows is not self.follows or (access is not None and access.has_conditions):
            return False
        self._who = principal
        return True

    def described(self, facts: RequestFacts) -> RequestFacts:
        """See :class:`Caller`."""
        session = self.opened.session
        return facts.but(session=self.opened.id, protocol_version=session.version, client=session.client)

    def upstream(self, server: str) -> SessionRef:
        """See :class:`Caller`."""
        ref = self._refs.get(server)
        if ref is None:
            carried = credentials.digest(self.carried.get(server, ()))
            ref = self._refs[server] = ref_to(server, self.opened.id, self.opened.session, carried)
        return ref

    def offered(self, server: str) -> Flags | None:
        """See :class:`Caller`."""
        session = self._memory.current(self.upstream(server))
        return None if session is None else session.capabilities

    def servers_with(self, capability: str) -> list[str]:
        """See :class:`Caller`."""
        names = [name for name in self.catalog.entries if self.catalog.may_offer(capability, name)]
        return [name for name in names if (offered := self.offered(name)) is None or capability in offered]

    @cached_property
    def stale_lists(self) -> frozenset[str]:
        """The session began under another configuration. Servers that the client does not know yet are announced when they
        are reached."""
        known = self.opened.session
        if known.offer in (0, self.catalog.checksum):
            return frozenset()
        offered = frozenset().union(*(server.capabilities for server in known.upstreams.values()))
        return frozenset(offered & LIST_CHANGED.keys())


class HandshakeCallers:
    """Finds the caller of a request by its session token."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._callers: Bounded[str, HandshakeCaller] = Bounded(_MAX_CALLERS, _MAX_CALLERS_BYTES)

    def find(self, served: ServedEndpoint, head: RequestHead, now: float) -> HandshakeCaller:
        """The caller that a request's token names.

        Raises:
            McpError: it has none.
            BadToken: it is none of this endpoint's, or of another principal's, or its session is over.
        """
        return self.known(head, now) or self._find(served, head, now)

    def known(self, head: RequestHead, now: float) -> HandshakeCaller | None:
        """The caller that was found for the very same head before, if its session goes on."""
        caller = head.found.caller
        if not isinstance(caller, HandshakeCaller) or caller.services is not self._services or caller.expires <= now:
            return None
        return None if self._services.memory.has_ended(caller.opened.id) else caller

    def _find(self, served: ServedEndpoint, head: RequestHead, now: float) -> HandshakeCaller:
        token = head.headers.get(_SESSION_ID)
        if token is None:
            raise refusals.session_missing()
        opened = self._services.sealer.open(token, audience=served.audience, principal=head.principal.key, now=now)
        if self._services.memory.has_ended(opened.id):
            raise BadToken("ended")
        carried = served.catalog.carried(head)
        key = credentials.key_of(opened.id, carried)
        caller = self._callers.get(key)
        if caller is None or caller.opened is not opened or not caller.is_still(served, head.principal):
            caller = HandshakeCaller(self._services, served, opened, head.principal, carried)
            self._callers.keep(key, caller, size_of(token) + _size_of(carried))
        head.found.caller = caller
        return caller


def _size_of(carried: Carried) -> int:
    """About how many bytes these hold."""
    return sum(128 + len(name) + len(value) for headers in carried.values() for name, value in headers)
