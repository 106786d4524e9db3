"""The configuration of each server, prepared once so that a request only looks it up."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import Server
from mcp_extproc.config.authorization import KINDS
from mcp_extproc.config.credentials import AUTHORIZATION, TokenExchange
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.gateway.credentials import OfCallers, OwnCredential, digest, of_callers
from mcp_extproc.gateway.headers import left_to_routes
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.gateway.request import NOTHING_CARRIED, Carried, Headers, RequestHead, Subject
from mcp_extproc.gateway.tokens import subject_of
from mcp_extproc.mcp.names import Names, is_served
from mcp_extproc.mcp.uris import Uris


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One server, as requests need it."""

    name: str
    own: OwnCredential
    """What the gateway itself sends it."""
    of_callers: OfCallers | None
    """What it gets of each caller; ``None`` for nothing."""
    exchanging: TokenExchange | None
    """How it gets a token of its own for each caller's; ``None`` where it gets none."""
    passes_challenges: bool
    """Whether its clients log in at the server itself."""
    credential_keys: tuple[str, ...]
    """The keys by which it gets credentials, for messages about them."""
    is_bridged: bool
    """Whether the bridge answers for it."""
    origins: frozenset[str]
    """``scheme://host:port`` of each replica, in lower case."""
    tools: Callable[[str], bool]
    """Whether a tool of this (unprefixed) name is offered. The same filter answers lists and calls."""
    discovery_timeout: float
    """Seconds."""
    untrusted: bool
    """Whether all that it sends is read and checked."""
    left_to_route: tuple[str, ...]
    """Headers of clients that its route in Envoy removes (:func:`mcp_extproc.gateway.headers.left_to_routes`)."""

    @property
    def path(self) -> str:
        """``:path`` of its endpoint, query included."""
        return self.own.path

    @property
    def headers(self) -> Headers:
        """Configured request headers, names in lower case. They hold credentials: never log them."""
        return self.own.headers

    @property
    def redact(self) -> Redactor:
        """For what the server writes, wherever the gateway shows it."""
        return self.own.redact

    def carried_again(self, headers: Mapping[str, str]) -> Headers:
        """What it gets of the caller, of a request that has it already."""
        carried = () if self.of_callers is None else self.of_callers.again(headers)
        if self.exchanging is not None and (token := headers.get(AUTHORIZATION)):
            return (*carried, (AUTHORIZATION, token))
        return carried

    def key_of(self, carried: Headers) -> str:
        """What stands for the caller in a session with it. A token that the caller's was exchanged for is no part of it: the
        next one is the same caller's."""
        if self.exchanging is not None:
            carried = tuple(header for header in carried if header[0] != AUTHORIZATION)
        return digest(carried)

    def offers(self, capability: str, name: str) -> bool:
        """Whether a name may be seen and used, by its own form and the configuration."""
        return is_served(name) and (capability != "tools" or self.tools(name))

    def __repr__(self) -> str:
        return f"CatalogEntry({self.name!r})"


class Catalog:
    """The servers that a caller may see, in the order of the configuration, with their names and URIs.

    Args:
        endpoint: it has them.
        entries: servers that are prepared already.
    """

    def __init__(self, endpoint: Endpoint, entries: Mapping[str, CatalogEntry] | None = None) -> None:
        known = {} if entries is None else entries
        self.entries: Mapping[str, CatalogEntry] = MappingProxyType(
            {name: known.get(name) or _entry(name, server) for name, server in endpoint.servers.items()}
        )
        self.endpoint = endpoint.name
        self.path = endpoint.path
        """Of the endpoint."""
        self.several = len(self.entries) > 1
        """Whether names of several servers have to be distinguished."""
        self.bare_names = endpoint.bare_names
        """Whether a name without a prefix may belong to the one server that lists it."""
        self.names = Names(endpoint.starts)
        self.uris = Uris(endpoint.uri_words, untouched=not self.several or endpoint.resources == "unprefixed")
        self.checksum = _checksum(endpoint)
        """Of the configuration that determines clients' lists: the servers, their names and filters."""
        self._exchanges = any(one.exchanging is not None for one in self.entries.values())
        self._of_callers = [(name, one.of_callers) for name, one in self.entries.items() if one.of_callers is not None]
        self._offered = endpoint.offered
        self._originals: Mapping[tuple[str, str], tuple[str, str]] = {
            (kind, new): found
            for kind in KINDS
            for former, new in endpoint.rename.of(kind).items()
            if (found := self.names.split(former)) is not None
        }
        self._new_names: Mapping[tuple[str, str, str], str] = {
            (kind, *found): new for (kind, new), found in self._originals.items()
        }

    def resolve(self, capability: str, name: str) -> tuple[CatalogEntry, str] | None:
        """The server of a client-visible name and the name there, or ``None`` for what is unknown or filtered out.

        Args:
            capability: ``tools`` or ``prompts``; each has names of its own.
            name: as a client gave it.
        """
        if not is_served(name):
            return None
        found = self._originals.get((capability, name)) if self._originals else None
        if found is None:
            found = self.names.split(name)
            if found is None or self.is_renamed(capability, *found):
                return None
        entry = self.entries[found[0]]
        return (entry, found[1]) if entry.offers(capability, found[1]) else None

    def visible(self, capability: str, server: str, name: str) -> str | None:
        """The name under which clients see a server's tool or prompt, or ``None`` for one they must not see."""
        visible = self._new_names.get((capability, server, name)) or self.names.join(server, name)
        # What a call would not find is not listed: filtered out, or hidden behind another server's prefix, or a new name.
        if server in self.names.sharing and self.may_be_shared(capability, visible):
            return visible if self.entries[server].offers(capability, name) else None
        found = self.resolve(capability, visible)
        return visible if found is not None and (found[0].name, found[1]) == (server, name) else None

    def may_be_shared(self, capability: str, name: str) -> bool:
        """Whether a name without a prefix may be that of one of several servers, which only their lists say."""
        is_new = (capability, name) in self._originals
        return bool(self.names.sharing) and not is_new and self.names.split(name) is None

    def is_renamed(self, capability: str, server: str, name: str) -> bool:
        """Whether a server's tool or prompt has a new name, and therefore no other."""
        return bool(self._new_names) and (capability, server, name) in self._new_names

    def carried(self, head: RequestHead) -> Carried:
        """What the servers get of the caller of a request."""
        if not self._of_callers:
            return NOTHING_CARRIED
        found = ((name, wanted.of(head.headers, head.principal.told)) for name, wanted in self._of_callers)
        return {name: headers for name, headers in found if headers}

    def subject(self, head: RequestHead) -> Subject | None:
        """Whose token is exchanged for what is done for a request; ``None`` where no server needs that."""
        return subject_of(head) if self._exchanges else None

    def may_offer(self, capability: str, server: str) -> bool:
        """Whether anything of a server's with this capability is offered."""
        if self._offered is None or capability not in KINDS:
            return True
        return bool(self._offered[server].of(capability))


def _checksum(endpoint: Endpoint) -> int:
    offer: tuple[object, ...] = (
        endpoint.resources,
        [
            (name, endpoint.starts[name], server.addresses, _target(server), server.tools.model_dump())
            for name, server in endpoint.servers.items()
        ],
    )
    if endpoint.authorization is not None:
        offer = (*offer, endpoint.authorization)
    if endpoint.offered is not None:
        offer = (*offer, endpoint.offered, endpoint.rename)
    if endpoint.policies:
        offer = (*offer, endpoint.policies)
    return zlib.crc32(repr(offer).encode())


def _target(server: Server) -> object:
    """What a server is, besides its addresses."""
    if server.transport == "sse":
        return server.transport, server.path_and_query
    if server.command is None:
        return server.path_and_query if server.unix_socket is None else (server.unix_socket, server.path_and_query)
    return [word.get_secret_value() for word in server.command]


def path_of(name: str, server: Server) -> str:
    """``:path`` of requests to a server, query included. Behind the bridge, each has a path of its own at the same socket."""
    return f"/{name}" if server.is_bridged else server.path_and_query


def origins_of(server: Server) -> frozenset[str]:
    """``scheme://host:port`` of each replica, in lower case; none of a command."""
    return frozenset(_origin(server, host, port) for host, port in server.addresses)


def headers_of(server: Server) -> Headers:
    """Configured request headers, names in lower case. They hold credentials: never log them."""
    return tuple((header.lower(), value.get_secret_value()) for header, value in server.headers.items())


def _entry(name: str, server: Server) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        own=OwnCredential(server, path_of(name, server), () if server.is_bridged else headers_of(server)),
        of_callers=of_callers(server.credentials),
        exchanging=server.credentials.token_exchange,
        passes_challenges=server.credentials.pass_through,
        credential_keys=server.credential_keys,
        is_bridged=server.is_bridged,
        origins=frozenset() if server.is_bridged else origins_of(server),
        tools=server.tools.allowing(),
        discovery_timeout=server.discovery_timeout,
        untrusted=server.untrusted,
        left_to_route=left_to_routes(server.written_headers),
    )


def _origin(server: Server, host: str, port: int) -> str:
    scheme = "https" if server.uses_tls else "http"
    return f"{scheme}://{TcpAddress(host.lower(), port)}"
