"""All filters that authenticate, and where they get what they need."""

from __future__ import annotations

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Authentication
from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.contract import PRINCIPAL_NAMESPACE
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy._api.config_route_v3 import FilterConfig
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render.authentication import api_keys, certificates, challenges, external, oauth, proven
from mcp_extproc.envoy.render.typed import any_of


def filters(config: GatewayConfig, layout: Layout) -> list[HttpFilter]:
    """The filters, in their order: behind those for browsers, whose preflights have no credentials, in front of all others.

    Each method's filter runs where its own credential is brought, and refuses a wrong one, whatever else is good. Who brings
    none is refused by one more filter. Where there is one method only, its filter does all of it.
    """
    authentication = config.authentication
    if authentication is None:
        return []
    found: list[HttpFilter] = []
    if authentication.api_keys is not None:
        found += api_keys.filters(authentication, authentication.api_keys)
    if authentication.oauth is not None:
        found += oauth.filters(authentication, authentication.oauth, endpoints(config)[0].path, layout)
    if authentication.external is not None:
        found += external.filters(authentication, authentication.external, challenges.refusal(authentication))
    if authentication.mtls is not None:
        found += certificates.filters(authentication.mtls)
    return [*found, *_nobody(authentication), *_to_metadata(authentication)]


def _nobody(authentication: Authentication) -> list[HttpFilter]:
    if authentication.is_single or authentication.existing is not None:
        return []
    proofs = [
        *([api_keys.PROVEN.proves] if authentication.api_keys is not None else []),
        *([oauth.PROVES] if authentication.oauth is not None else []),
        *([external.proves(authentication.external)] if authentication.external is not None else []),
        *([certificates.proves(authentication.mtls)] if authentication.mtls is not None else []),
    ]
    if not authentication.anonymous:
        return [proven.nobody(proofs)]
    # An Authorization that no method looks at is not nothing, nor is what a service or a certificate names nobody for.
    brought = [
        *([proven.present("authorization")] if authentication.oauth is None else []),
        *([external.is_brought(authentication.external)] if authentication.external is not None else []),
        *([certificates.brought()] if authentication.mtls is not None else []),
    ]
    return [proven.nobody(proofs, brought)] if brought else []


def _to_metadata(authentication: Authentication) -> list[HttpFilter]:
    methods = _in_headers(authentication)
    return [proven.to_metadata(methods)] if methods else []


def _in_headers(authentication: Authentication) -> list[proven.Method]:
    """The methods whose filters name the caller in a header."""
    return [
        *([api_keys.PROVEN] if authentication.api_keys is not None else []),
        *(external.in_headers(authentication.external) if authentication.external is not None else []),
        *([certificates.PROVEN, certificates.FINGERPRINT] if authentication.mtls is not None else []),
    ]


def identity_headers(config: GatewayConfig) -> list[str]:
    """Headers in which filters say who was proven: no client may send them."""
    return [] if config.authentication is None else [method.header for method in _in_headers(config.authentication)]


def clusters(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """The clusters that these filters use."""
    authentication = config.authentication
    if authentication is None:
        return []
    return [
        *(oauth.clusters(authentication.oauth, layout) if authentication.oauth is not None else []),
        *([external.cluster(authentication.external)] if authentication.external is not None else []),
    ]


def namespaces(config: GatewayConfig) -> list[str]:
    """Metadata namespaces of what these filters verified, or those of others."""
    if config.existing is not None:
        return list(config.existing.namespaces)
    authentication = config.authentication
    if authentication is None:
        return []
    return [
        *([PRINCIPAL_NAMESPACE] if _in_headers(authentication) else []),
        *([oauth.METADATA] if authentication.oauth is not None else []),
        *(external.namespaces(authentication.external) if authentication.external is not None else []),
    ]


def without(config: GatewayConfig, layout: Layout) -> dict[str, Any]:
    """The configuration of a route that needs no authentication."""
    return {item.name: any_of(FilterConfig(disabled=True)) for item in filters(config, layout)}


def check_without_supervisor(config: GatewayConfig, name: str) -> None:
    """Check that an Envoy without a supervisor of ours can get all keys.

    Args:
        config: the whole configuration.
        name: of its file, for errors.

    Raises:
        ConfigError: it can't.
    """
    method = config.authentication.oauth if config.authentication is not None else None
    for index, one in enumerate(method.issuers if method is not None else ()):
        if one.jwks is None:
            problem = (
                "required, as this Envoy finds no keys by itself: give uri or file, or start Envoy with"
                " `mcp-extproc run`, or with the files of `mcp-extproc serve --envoy-config`"
            )
            raise ConfigError(name, [Problem(problem, field(["authentication", "oauth", "issuers", index, "jwks"]))])
