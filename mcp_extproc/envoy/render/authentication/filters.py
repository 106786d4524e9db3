"""All filters that authenticate, and where they get what they need."""

from __future__ import annotations

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Authentication
from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.endpoint import Endpoint, endpoints
from mcp_extproc.contract import CLAIMS_HEADER, PRINCIPAL_NAMESPACE
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy._api.config_route_v3 import FilterConfig
from mcp_extproc.envoy._api.filters_http_header_to_metadata_v3 import ConfigRule
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.message import Any
from mcp_extproc.envoy.render.authentication import api_keys, certificates, challenges, external, oauth, proven
from mcp_extproc.envoy.render.authentication.sections import Section, by_endpoint, sections
from mcp_extproc.envoy.render.typed import any_of


def filters(config: GatewayConfig, layout: Layout) -> list[HttpFilter]:
    """The filters, in their order: behind those for browsers, whose preflights have no credentials, in front of all others.

    Each method's filter runs where its own credential is brought, and refuses a wrong one, whatever else is good. Who brings
    none is refused by one more filter. Where there is one method only, its filter does all of it.

    Args:
        config: the whole configuration.
        layout: of this Envoy.
    """
    return [item for section in sections(config) for item in _of_section(section, layout)]


def marks(config: GatewayConfig) -> list[ConfigRule]:
    """What is to be said of requests as they come in, in front of these filters."""
    return [proven.UNCLAIMED] if verifies_tokens(config) else []


def _of_section(section: Section, layout: Layout) -> list[HttpFilter]:
    authentication = section.authentication
    found: list[HttpFilter] = []
    if authentication.api_keys is not None:
        found += api_keys.filters(section, authentication.api_keys)
    if authentication.oauth is not None:
        found += oauth.filters(section, authentication.oauth, layout)
    if authentication.external is not None:
        found += external.filters(section, authentication.external, challenges.refusal(section))
    if authentication.mtls is not None:
        found += certificates.filters(section, authentication.mtls)
    return [*found, *_nobody(section), *_to_metadata(section)]


def _nobody(section: Section) -> list[HttpFilter]:
    authentication = section.authentication
    if authentication.is_single:
        return []
    proofs = [
        *([api_keys.PROVEN.proves] if authentication.api_keys is not None else []),
        *([oauth.PROVES] if authentication.oauth is not None else []),
        *([external.proves(authentication.external)] if authentication.external is not None else []),
        *([certificates.proves(authentication.mtls)] if authentication.mtls is not None else []),
    ]
    if not authentication.anonymous:
        return [proven.nobody(section, proofs)]
    # An Authorization that no method looks at is not nothing, nor is what a service or a certificate names nobody for.
    brought = [
        *([proven.present("authorization")] if authentication.oauth is None else []),
        *([external.is_brought(authentication.external)] if authentication.external is not None else []),
        *([certificates.brought()] if authentication.mtls is not None else []),
    ]
    return [proven.nobody(section, proofs, brought)] if brought else []


def _to_metadata(section: Section) -> list[HttpFilter]:
    methods = _in_headers(section.authentication)
    return [proven.to_metadata(section, methods)] if methods else []


def _in_headers(authentication: Authentication) -> list[proven.Method]:
    """The methods whose filters name the caller in a header."""
    return [
        *([api_keys.PROVEN] if authentication.api_keys is not None else []),
        *(external.in_headers(authentication.external) if authentication.external is not None else []),
        *([certificates.PROVEN, certificates.FINGERPRINT] if authentication.mtls is not None else []),
    ]


def on_routes(config: GatewayConfig, layout: Layout) -> dict[str, dict[str, Any]]:
    """The configuration of the routes of endpoints, by the endpoint's name: it turns the filters of others off."""
    among = sections(config)
    owners = by_endpoint(among)
    off = {
        section.name: {item.name: any_of(FilterConfig(disabled=True)) for item in _of_section(section, layout)}
        for section in among
    }
    found = {}
    for endpoint in endpoints(config):
        own = owners.get(endpoint.name)
        said = {} if own is None else _on_route(own, endpoint)
        for section in among:
            if section is not own:
                said |= off[section.name]
        found[endpoint.name] = said
    return found


def _on_route(own: Section, endpoint: Endpoint) -> dict[str, Any]:
    method = own.authentication.oauth
    return {} if method is None else oauth.on_route(own, method, endpoint)


def services_alone(config: GatewayConfig) -> GatewayConfig:
    """A configuration in which nobody but the services says who calls."""

    def alone(section: Authentication | None) -> Authentication | None:
        external = None if section is None else section.external
        return None if external is None else Authentication(external=external)

    virtual = {
        name: one.model_copy(update={"authentication": alone(one.authentication)})
        for name, one in config.virtual_servers.items()
    }
    return config.model_copy(update={"authentication": alone(config.authentication), "virtual_servers": virtual})


def identity_headers(config: GatewayConfig) -> list[str]:
    """Headers in which filters say who was proven: no client may send them."""
    each = [method.header for section in sections(config) for method in _in_headers(section.authentication)]
    return list(dict.fromkeys([*each, *([CLAIMS_HEADER] if verifies_tokens(config) else [])]))


def verifies_tokens(config: GatewayConfig) -> bool:
    """Whether a filter of ours verifies access tokens."""
    return any(section.authentication.oauth is not None for section in sections(config))


def authorities_of_clients(config: GatewayConfig) -> str | None:
    """File of the authorities whose certificates clients may have: the listener has one for all endpoints."""
    methods = (section.authentication.mtls for section in sections(config))
    return next((mtls.ca for mtls in methods if mtls is not None), None)


def clusters(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """The clusters that these filters use."""
    found: list[Cluster] = []
    among = sections(config)
    if verifies_tokens(config):
        found += oauth.keys_cluster(layout)
    for section in among:
        authentication = section.authentication
        if authentication.oauth is not None:
            found += oauth.clusters(section, authentication.oauth, layout)
        if authentication.external is not None:
            found.append(external.cluster(section, authentication.external))
    return found


def namespaces(config: GatewayConfig) -> list[str]:
    """Metadata namespaces of what these filters verified, or those of others. What is in tokens has a header."""
    found: list[str] = []
    for endpoint in endpoints(config):
        if endpoint.existing is not None:
            found += endpoint.existing.namespaces
    for section in sections(config):
        authentication = section.authentication
        found += [
            *([PRINCIPAL_NAMESPACE] if authentication.oauth is not None or _in_headers(authentication) else []),
            *(external.namespaces(authentication.external) if authentication.external is not None else []),
        ]
    return list(dict.fromkeys(found))


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
    for place, section in config.authentications():
        for index, one in enumerate(section.oauth.issuers if section.oauth is not None else ()):
            if one.jwks is None:
                problem = (
                    "required, as this Envoy finds no keys by itself: give uri or file, or start Envoy with"
                    " `mcp-extproc run`, or with the files of `mcp-extproc serve --envoy-config`"
                )
                raise ConfigError(name, [Problem(problem, field([*place, "oauth", "issuers", index, "jwks"]))])
