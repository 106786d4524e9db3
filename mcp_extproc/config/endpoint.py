"""MCP endpoints: where clients find one, and the servers, names and URIs behind it.

Today a configuration describes one, in ``listen`` and ``servers``. Everything that differs between two endpoints of one
gateway is read from this value and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mcp_extproc.config.authorization import Authorization
from mcp_extproc.config.model import GatewayConfig, Server, prefix_of
from mcp_extproc.config.uri_words import scheme_word


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One MCP endpoint."""

    name: str
    """Unique; empty for the one that ``listen`` describes. Names of Envoy's routes are made of it."""
    path: str
    """Matched exactly."""
    hosts: frozenset[str] | None
    """What ``Host`` may name besides this machine itself (DNS rebinding), in lower case; ``None`` for anything."""
    origins: tuple[str, ...] | None
    """Web origins that may call, in lower case; ``None`` for loopback ones."""
    servers: Mapping[str, Server]
    """By a name that is unique over all endpoints: clusters, routes, metadata and stored sessions go by it."""
    prefixes: Mapping[str, str]
    """By server: the word before its names, possibly empty."""
    uri_words: Mapping[str, str]
    """By server: the word before its URIs, possibly empty."""
    separator: str
    """Between prefix and name."""
    bare_names: bool
    """Whether names are served without a prefix, too, where one server alone has them."""
    resources: Literal["prefixed", "unprefixed"]
    authorization: Authorization | None = None
    """What callers may see and do; ``None`` for everything."""
    scopes_supported: tuple[str, ...] = ()
    """Scopes that clients are told of."""
    public_url: str | None = None
    """Scheme and host by which clients reach it; ``None`` for those that each of them uses."""


def endpoints(config: GatewayConfig) -> tuple[Endpoint, ...]:
    """All endpoints of a gateway. The first is the one that people are shown."""
    prefixes = {name: prefix_of(name, server) for name, server in config.servers.items()}
    authentication = config.authentication
    oauth = None if authentication is None else authentication.oauth
    main = Endpoint(
        name="",
        path=config.listen.path,
        hosts=config.listen.hosts,
        origins=config.origins,
        servers=config.servers,
        prefixes=prefixes,
        uri_words={name: scheme_word(prefix) for name, prefix in prefixes.items()},
        separator=config.separator,
        bare_names=config.bare_names,
        resources=config.resources,
        authorization=config.authorization,
        scopes_supported=() if oauth is None else oauth.scopes_supported,
        public_url=None if authentication is None else authentication.public_url,
    )
    return (main,)
