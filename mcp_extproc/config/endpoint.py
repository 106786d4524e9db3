"""MCP endpoints: where clients find one, and the servers, names and URIs behind it.

A configuration describes one in ``listen`` and ``servers``, the main one, and others in ``virtual_servers``. Everything that
differs between two endpoints of one gateway is read from this value and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mcp_extproc.config.authentication import Authentication, Existing
from mcp_extproc.config.authentications import url_at
from mcp_extproc.config.authorization import Authorization, Selector
from mcp_extproc.config.envoy_message import Raw
from mcp_extproc.config.model import GatewayConfig, Listen, Server, start_of, uri_words
from mcp_extproc.config.policies import has_filter
from mcp_extproc.config.uri_words import scheme_word
from mcp_extproc.config.vetting import Entries
from mcp_extproc.config.virtual_servers import Offered, Rename, VirtualServer
from mcp_extproc.contract import RESOURCE_METADATA_PATH


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One MCP endpoint."""

    name: str
    """Unique; empty for the one that ``listen`` describes. Names of Envoy's routes are made of it."""
    path: str
    """Matched exactly. Not unique: :attr:`domains` and :attr:`headers` tell endpoints apart, too."""
    hosts: frozenset[str] | None
    """What ``Host`` may name besides this machine itself (DNS rebinding), in lower case; ``None`` for anything."""
    origins: tuple[str, ...] | None
    """Web origins that may call, in lower case; ``None`` for loopback ones."""
    servers: Mapping[str, Server]
    """By name. A name means the same at all endpoints: clusters, routes, metadata and stored sessions go by it."""
    starts: Mapping[str, str]
    """By server: what its names start with (prefix and separator), possibly nothing."""
    uri_words: Mapping[str, str]
    """By server: the word before its URIs, possibly empty."""
    bare_names: bool
    """Whether names are served without a prefix, too, where one server alone has them."""
    resources: Literal["prefixed", "unprefixed"]
    authorization: Authorization | None = None
    """What callers may see and do; ``None`` for everything."""
    vetting: Entries = ()
    """Calls that wait for the user's consent."""
    scopes_supported: tuple[str, ...] = ()
    """Scopes that clients are told of."""
    resource: str | None = None
    """Its URL as clients know it, their ``resource`` (RFC 8707); ``None`` for the one that they use."""
    public_url: str | None = None
    """Scheme and host by which clients reach it; ``None`` for those that each of them uses."""
    domains: tuple[str, ...] = ()
    """Host names, in lower case, whose requests Envoy takes for its own; ``*.example`` is all below. None for any."""
    headers: Mapping[str, str | Selector] = field(default_factory=dict)
    """What its requests have to have, by lower-case name: a value, or one that a regular expression matches."""
    authentication: Authentication | None = None
    """Who may call; ``None`` for everybody."""
    existing: Existing | None = None
    """Where to find what others' filters verified about the caller."""
    has_own_authentication: bool = False
    """Whether that is its own, and not the main endpoint's."""
    instructions: str | None = None
    """What clients are told; ``None`` for what its servers say."""
    offered: Mapping[str, Offered] | None = None
    """What it offers of each server; ``None`` for everything."""
    rename: Rename = field(default_factory=Rename)
    """New names of what it offers."""
    typed_per_filter_config: Mapping[str, Raw] = field(default_factory=dict, repr=False)
    """Of the operator's filters in front of the gateway's, where it is another one than for all other requests."""
    policies: str = field(default="", repr=False)
    """The operator's filters, where its lists follow them and there is an RBAC among them: what is left out of lists changes
    with them."""

    @property
    def told_headers(self) -> dict[str, str]:
        """:attr:`headers`, for people."""
        return {
            name: value if isinstance(value, str) else f"{value.text} (a regular expression)"
            for name, value in self.headers.items()
        }

    @property
    def metadata_path(self) -> str:
        """Where clients find which authorization servers there are (RFC 9728 section 3.1)."""
        return RESOURCE_METADATA_PATH + (self.path if self.path != "/" else "")


_EVERY_ADDRESS = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}  # noqa: S104


def url_of(endpoint: Endpoint, listen: Listen) -> str:
    """Where clients on this machine find an endpoint. Of several hosts: the first without a wildcard, if possible."""
    exact = [one for one in endpoint.domains if not one.startswith("*")]
    host = next(iter(exact or endpoint.domains), _EVERY_ADDRESS.get(listen.address, listen.address))
    scheme = "http" if listen.tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listen.port}{endpoint.path}"


def endpoints(config: GatewayConfig) -> tuple[Endpoint, ...]:
    """All endpoints of a gateway. The first is the main one, if there is one. Of the others, the first that matches a request
    has it; of all, the main one is matched last."""
    main = _main(config)
    virtual = tuple(_virtual(config, main, name, one) for name, one in config.virtual_servers.items())
    return (main, *virtual) if config.main_endpoint else virtual


def shown(config: GatewayConfig) -> Endpoint:
    """The endpoint of which people are told where one is: the main one, or the first that a path alone chooses."""
    served = endpoints(config)
    return next((one for one in served if not one.domains and not one.headers), served[0])


def all_servers(config: GatewayConfig) -> Endpoint:
    """All servers together, as the gateway itself sees them: the main endpoint, or what stands for it where there is none.
    Names have the servers' own in front there, for at several endpoints prefixes may be the same."""
    main = _main(config)
    if config.main_endpoint:
        return main
    starts = {name: name + config.separator for name in config.servers}
    return replace(main, starts=starts, uri_words={name: scheme_word(name) for name in config.servers})


def _main(config: GatewayConfig) -> Endpoint:
    return Endpoint(
        name="",
        path=config.listen.path,
        hosts=config.listen.hosts,
        origins=config.origins,
        servers=config.servers,
        starts={name: start_of(name, server, config.separator) for name, server in config.servers.items()},
        uri_words=uri_words(config.servers),
        bare_names=config.bare_names,
        resources=config.resources,
        authorization=config.authorization,
        vetting=config.vetting,
        scopes_supported=_scopes(config.authentication),
        resource=_resource(config.authentication, config.listen.path),
        public_url=None if config.authentication is None else config.authentication.public_url,
        authentication=config.authentication,
        existing=config.existing,
        policies=_policies(config, config.authorization),
    )


def _virtual(config: GatewayConfig, main: Endpoint, name: str, virtual: VirtualServer) -> Endpoint:
    own = virtual.authentication
    authentication = own or main.authentication
    authorization = virtual.authorization or main.authorization
    # The main endpoint's URL names another host than its own.
    inherited = None if virtual.domains else main.public_url
    path = virtual.path_of(name, config.listen.path)
    beside = None if virtual.domains else url_at(main.authentication, main.path, path)
    return replace(
        main,
        name=name,
        path=path,
        # A page that was let in by a name of its own has none of these.
        hosts=None if virtual.domains else main.hosts,
        origins=main.origins if virtual.origins is None else virtual.origins,
        servers={server: config.servers[server] for server in virtual.offered},
        starts={server: main.starts[server] for server in virtual.offered},
        uri_words={server: main.uri_words[server] for server in virtual.offered},
        authorization=authorization,
        scopes_supported=_scopes(authentication),
        # Clients refuse to log in where another URL is told than the one that they use.
        resource=beside if own is None else _resource(own, path),
        public_url=inherited if own is None else own.public_url,
        domains=virtual.domains,
        headers=virtual.headers,
        authentication=authentication,
        existing=main.existing if own is None else own.existing,
        has_own_authentication=own is not None,
        instructions=virtual.instructions,
        offered=virtual.offered,
        rename=virtual.rename,
        typed_per_filter_config=virtual.typed_per_filter_config,
        policies=_policies(config, authorization),
    )


def _policies(config: GatewayConfig, authorization: Authorization | None) -> str:
    if authorization is not None and authorization.lists != "follow_policies":
        return ""
    if not has_filter(config.envoy.http_filters, "rbac.v3.RBAC"):
        return ""
    per_server = [server.typed_per_filter_config for server in config.servers.values()]
    return repr((config.envoy.http_filters, config.envoy.typed_per_filter_config, per_server))


def _scopes(authentication: Authentication | None) -> tuple[str, ...]:
    oauth = None if authentication is None else authentication.oauth
    return () if oauth is None else oauth.scopes_supported


def _resource(authentication: Authentication | None, path: str) -> str | None:
    if authentication is None:
        return None
    oauth = authentication.oauth
    if oauth is not None and oauth.resource is not None:
        return oauth.resource
    return None if authentication.public_url is None else authentication.public_url + path
