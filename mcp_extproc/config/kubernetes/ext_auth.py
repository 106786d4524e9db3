"""An MCPRoute's extAuth: a service that lets requests in or not, asked by a filter of Envoy's in front of the gateway's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_extproc.address import TcpAddress
from mcp_extproc.config.kubernetes.attached import AttachedRoute
from mcp_extproc.config.kubernetes.backends import Place, place_of
from mcp_extproc.config.kubernetes.documents import FieldPath
from mcp_extproc.config.kubernetes.envoy_gateway import ExtAuth, GrpcExtAuth, HttpExtAuth
from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.tls import UpstreamTls, is_ip, san_type, system_ca_file

_PLACE: Final = ("spec", "securityPolicy", "extAuth")
_NAME: Final = "ext-auth"
_TYPES: Final = "type.googleapis.com/envoy.extensions"
_DEFAULT_SECONDS: Final = 10.0
"""Until the service has to have answered, as in Envoy Gateway."""

_FILTER_CONFIG: Final = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
_OFF: Final = {"@type": _FILTER_CONFIG, "disabled": True}


@dataclass(frozen=True, slots=True)
class Gates:
    """The services that let requests in, of all routes of a file."""

    envoy: dict[str, Any]
    """The section ``envoy``; empty if none of the routes asks a service."""
    by_route: Mapping[str, dict[str, Any]]
    """``typed_per_filter_config`` of the virtual server that a route is, by its name."""


def ext_auth(reading: Reading, routes: Sequence[AttachedRoute]) -> Gates:
    """A filter for each route that asks a service. Where there are several routes, it is on for its own alone."""
    filters: list[dict[str, Any]] = []
    clusters: list[dict[str, Any]] = []
    by_route = {}
    everywhere: dict[str, Any] = {}
    for route in routes:
        asked = _asked(route)
        if asked is None:
            continue
        _check(reading, route, asked)
        key, service = ("http", asked.http) if asked.http is not None else ("grpc", asked.grpc)
        assert service is not None
        place = _place(reading, route, key, service)
        if place is None:
            continue
        name = f"{_NAME}/{route.at[-1]}" if route.at else _NAME
        own = [*_cleaning(name, asked), _filter(name, asked, place)]
        filters += own
        clusters.append(_cluster(name, place, http2=key == "grpc"))
        reading.comes_from(["envoy"], route.document, _PLACE)
        context = _context(reading, route, asked)
        if route.at:
            by_route[route.at[-1]] = {one["name"]: _on(context if one["name"] == name else {}) for one in own}
            everywhere |= {one["name"]: dict(_OFF) for one in own}
        elif context:
            everywhere[name] = context
    if not filters:
        return Gates({}, {})
    envoy: dict[str, Any] = {"http_filters_before": filters, "clusters": clusters}
    return Gates(envoy | ({"typed_per_filter_config": everywhere} if everywhere else {}), by_route)


def _asked(route: AttachedRoute) -> ExtAuth | None:
    return None if route.spec.security_policy is None else route.spec.security_policy.ext_auth


def _refuse(reading: Reading, route: AttachedRoute, message: str, *within: str | int) -> None:
    reading.refuse(route.document, [*_PLACE, *within], message)


def _check(reading: Reading, route: AttachedRoute, asked: ExtAuth) -> None:
    if asked.context_extensions and asked.grpc is None:
        _refuse(
            reading,
            route,
            "Envoy tells them to services with gRPC alone: ask by `grpc`, or leave it out",
            "contextExtensions",
        )
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
    if place is not None and place.tls is not None and "client_key_inline" in place.tls:
        _refuse(reading, route, "leads to a service with a clientCertificateRef, which is not supported here", *within)
    return place


def _on(context: dict[str, Any]) -> dict[str, Any]:
    return {"@type": _FILTER_CONFIG, "config": context}


def _context(reading: Reading, route: AttachedRoute, asked: ExtAuth) -> dict[str, Any]:
    """What the service is told with each question; empty where that is nothing. Envoy shows it to its operators."""
    told: dict[str, str] = {}
    for index, one in enumerate(asked.context_extensions):
        place: FieldPath = [*_PLACE, "contextExtensions", index]
        value = one.value
        if one.value_ref is not None:
            reference = one.value_ref
            if reference.kind == "Secret":
                _refuse(
                    reading, route, "expected a ConfigMap: what is told would stand in Envoy's configuration, for all to read"
                    " who read that", *place[len(_PLACE):], "valueRef", "kind",
                )  # fmt: skip
            elif (reference.group, reference.kind) not in (("", "ConfigMap"), ("v1", "ConfigMap")):
                _refuse(reading, route, "expected a ConfigMap", *place[len(_PLACE) :], "valueRef", "kind")
            else:
                value = reading.config_map(route.document, [*place, "valueRef"], reference.name, reference.key)
        told[one.name] = value or ""
    if not told:
        return {}
    return {
        "@type": f"{_TYPES}.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        "check_settings": {"context_extensions": told},
    }


def _cleaning(name: str, asked: ExtAuth) -> list[dict[str, Any]]:
    """A filter that takes away what is the service's to say, and which clients could write where it says nothing. What it is
    asked about has to stay."""
    if asked.http is None:
        return []
    looked_at = {"authorization", *map(str.lower, asked.headers_to_ext_auth)}
    own = [header for header in asked.http.headers_to_backend if header.lower() not in looked_at]
    config = {
        "@type": f"{_TYPES}.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"remove": header} for header in own]},
    }
    return [{"name": f"{name}-headers", "typed_config": config}] if own else []


def _filter(name: str, asked: ExtAuth, place: Place) -> dict[str, Any]:
    seconds = f"{asked.timeout or _DEFAULT_SECONDS:g}s"
    config: dict[str, Any] = {
        "@type": f"{_TYPES}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": asked.fail_open,
    }
    if asked.http is not None:
        config["http_service"] = _http_service(name, asked.http, place, seconds)
    else:
        config["grpc_service"] = {"envoy_grpc": {"cluster_name": name}, "timeout": seconds}
    if asked.headers_to_ext_auth:
        patterns = [{"exact": header, "ignore_case": True} for header in asked.headers_to_ext_auth]
        config["allowed_headers"] = {"patterns": patterns}
    if asked.body_to_ext_auth is not None:
        config["with_request_body"] = {"max_request_bytes": asked.body_to_ext_auth.max_request_bytes}
    if asked.status_on_error is not None:
        config["status_on_error"] = {"code": asked.status_on_error}
    return {"name": name, "typed_config": config}


def _http_service(name: str, asked: HttpExtAuth, place: Place, seconds: str) -> dict[str, Any]:
    uri = {"uri": f"http://{TcpAddress(*place.hosts[0])}", "cluster": name, "timeout": seconds}
    paths = {"path_prefix": asked.path, "path_override": asked.path_override}
    patterns = [{"exact": header, "ignore_case": True} for header in asked.headers_to_backend]
    found: dict[str, Any] = {"server_uri": uri}
    if patterns:
        found["authorization_response"] = {"allowed_upstream_headers": {"patterns": patterns}}
    return found | {key: path for key, path in paths.items() if path is not None}


def _cluster(name: str, place: Place, *, http2: bool) -> dict[str, Any]:
    addresses = (
        [{"socket_address": {"address": host, "port_value": port}} for host, port in place.hosts]
        if place.unix_socket is None
        else [{"pipe": {"path": place.unix_socket}}]
    )
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": one}} for one in addresses]}]
    http2 = http2 or place.http2
    found: dict[str, Any] = {
        "name": name,
        "type": "STRICT_DNS" if place.unix_socket is None else "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
    if place.tls is not None:
        found["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": _tls(
                UpstreamTls.model_validate(place.tls), place.hosts[0][0], "h2" if http2 else "http/1.1"
            ),
        }
    if http2:
        options = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
        found["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return found


def _tls(tls: UpstreamTls, host: str, alpn: str) -> dict[str, Any]:
    name = tls.sni or host
    trusted = {"inline_string": tls.ca_inline} if tls.ca_inline is not None else {"filename": system_ca_file()}
    names = [{"san_type": san_type(one), "matcher": {"exact": one}} for one in (tls.subject_alt_names or (name,))]
    versions = {"tls_maximum_protocol_version": f"TLSv{(tls.max_version or '1.3').replace('.', '_')}"}
    if tls.min_version is not None:
        versions["tls_minimum_protocol_version"] = f"TLSv{tls.min_version.replace('.', '_')}"
    lists = {
        "cipher_suites": tls.ciphers,
        "ecdh_curves": tls.ecdh_curves,
        "signature_algorithms": tls.signature_algorithms,
    }
    common: dict[str, Any] = {
        "alpn_protocols": [alpn],
        "tls_params": versions | {key: list(names) for key, names in lists.items() if names},
    }
    if not tls.insecure_skip_verify:
        common["validation_context"] = {"trusted_ca": trusted, "match_typed_subject_alt_names": names}
    return {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
        **({} if is_ip(name) else {"sni": name}),
    }
