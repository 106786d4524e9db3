"""An MCPRoute's extAuth: a service that lets requests in or not, asked by a filter of Envoy's in front of the gateway's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mcp_extproc.address import TcpAddress
from mcp_extproc.config.kubernetes.attached import AttachedRoute
from mcp_extproc.config.kubernetes.backends import Place, place_of
from mcp_extproc.config.kubernetes.envoy_gateway import ExtAuth, GrpcExtAuth, HttpExtAuth
from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.reading import Reading

_PLACE: Final = ("spec", "securityPolicy", "extAuth")
_NAME: Final = "ext-auth"
_TYPES: Final = "type.googleapis.com/envoy.extensions"
_DEFAULT_SECONDS: Final = 10.0
"""Until the service has to have answered, as in Envoy Gateway."""


def ext_auth(reading: Reading, routes: Sequence[AttachedRoute]) -> dict[str, Any]:
    """The section ``envoy`` for all routes of a file; empty if none of them asks a service."""
    if len(routes) > 1:
        for route in filter(_asked, routes):
            _refuse(
                reading,
                route,
                "is not supported where a file has several MCPRoutes: Envoy would ask about the requests of all; give it a"
                " file of its own",
            )
        return {}
    [route] = routes
    asked = _asked(route)
    if asked is None:
        return {}
    _check(reading, route, asked)
    key, service = ("http", asked.http) if asked.http is not None else ("grpc", asked.grpc)
    assert service is not None
    place = _place(reading, route, key, service)
    if place is None:
        return {}
    reading.comes_from(["envoy"], route.document, _PLACE)
    return {
        "http_filters_before": [*_cleaning(asked), _filter(asked, place)],
        "clusters": [_cluster(place, key == "grpc")],
    }


def _asked(route: AttachedRoute) -> ExtAuth | None:
    return None if route.spec.security_policy is None else route.spec.security_policy.ext_auth


def _refuse(reading: Reading, route: AttachedRoute, message: str, *within: str | int) -> None:
    reading.refuse(route.document, [*_PLACE, *within], message)


def _check(reading: Reading, route: AttachedRoute, asked: ExtAuth) -> None:
    if route.spec.security_policy is not None and route.spec.security_policy.oauth is not None:
        _refuse(
            reading,
            route,
            "is not supported together with oauth: the service would be asked about the metadata, too, by which clients find"
            " out where to log in; leave one of them out",
        )
    if asked.context_extensions:
        _refuse(reading, route, "is not supported: leave it out", "contextExtensions")
    if asked.include_route_metadata:
        _refuse(reading, route, "is not supported: routes have no metadata here; leave it out", "includeRouteMetadata")
    if asked.recompute_route:
        reading.warn(
            route.document, [*_PLACE, "recomputeRoute"], "has no effect: what the service says chooses no server"
        )


def _place(reading: Reading, route: AttachedRoute, key: str, service: GrpcExtAuth) -> Place | None:
    if service.backend_settings:
        reading.warn(route.document, [*_PLACE, key, "backendSettings"], "has no effect: Envoy's defaults apply")
    if (service.backend_ref is not None) + len(service.backend_refs) != 1:
        _refuse(reading, route, "expected one backend reference", key)
        return None
    single = service.backend_ref is not None
    within: list[str | int] = [key, "backendRef"] if single else [key, "backendRefs", 0]
    [reference] = [service.backend_ref] if service.backend_ref is not None else service.backend_refs
    if reference.fallback:
        _refuse(reading, route, "is not supported: leave it out", *within, "fallback")
    target = Reference(name=reference.name, group=reference.group, kind=reference.kind, namespace=reference.namespace)
    place = place_of(reading, route.document, [*_PLACE, *within], target, reference.port)
    if place is not None and place.tls is not None:
        _refuse(reading, route, "leads to a service that speaks TLS, which is not supported here", *within)
    return place


def _cleaning(asked: ExtAuth) -> list[dict[str, Any]]:
    """A filter that takes away what is the service's to say, and which clients could write where it says nothing. What it is
    asked about has to stay."""
    if asked.http is None:
        return []
    looked_at = {"authorization", *map(str.lower, asked.headers_to_ext_auth)}
    own = [name for name in asked.http.headers_to_backend if name.lower() not in looked_at]
    config = {
        "@type": f"{_TYPES}.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"remove": name} for name in own]},
    }
    return [{"name": f"{_NAME}-headers", "typed_config": config}] if own else []


def _filter(asked: ExtAuth, place: Place) -> dict[str, Any]:
    seconds = f"{asked.timeout or _DEFAULT_SECONDS:g}s"
    config: dict[str, Any] = {
        "@type": f"{_TYPES}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": asked.fail_open,
    }
    if asked.http is not None:
        config["http_service"] = _http_service(asked.http, place, seconds)
    else:
        config["grpc_service"] = {"envoy_grpc": {"cluster_name": _NAME}, "timeout": seconds}
    if asked.headers_to_ext_auth:
        patterns = [{"exact": name, "ignore_case": True} for name in asked.headers_to_ext_auth]
        config["allowed_headers"] = {"patterns": patterns}
    if asked.body_to_ext_auth is not None:
        config["with_request_body"] = {"max_request_bytes": asked.body_to_ext_auth.max_request_bytes}
    if asked.status_on_error is not None:
        config["status_on_error"] = {"code": asked.status_on_error}
    return {"name": _NAME, "typed_config": config}


def _http_service(asked: HttpExtAuth, place: Place, seconds: str) -> dict[str, Any]:
    uri = {"uri": f"http://{TcpAddress(*place.hosts[0])}", "cluster": _NAME, "timeout": seconds}
    paths = {"path_prefix": asked.path, "path_override": asked.path_override}
    patterns = [{"exact": name, "ignore_case": True} for name in asked.headers_to_backend]
    found: dict[str, Any] = {"server_uri": uri}
    if patterns:
        found["authorization_response"] = {"allowed_upstream_headers": {"patterns": patterns}}
    return found | {key: path for key, path in paths.items() if path is not None}


def _cluster(place: Place, http2: bool) -> dict[str, Any]:
    addresses = [{"socket_address": {"address": host, "port_value": port}} for host, port in place.hosts]
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": one}} for one in addresses]}]
    found: dict[str, Any] = {
        "name": _NAME,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": _NAME, "endpoints": endpoints},
    }
    if http2 or place.http2:
        options = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
        found["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return found
