"""Pass-through on an existing listener: a filter that inspects requests on selected routes only.

Routes, virtual hosts and clusters keep their function. Additions to a route have a reserved name, or a mark in its
metadata, so that they can be removed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import MARKER_NAMESPACE, MESSAGE_TIMEOUT, NAMESPACE, PASS_THROUGH_KEY, READ_KEY
from mcp_extproc.envoy._api.config_accesslog_v3 import AccessLogFilter, AndFilter, MetadataFilter
from mcp_extproc.envoy._api.config_core_v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
)
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter, ResponseMapper
from mcp_extproc.envoy._api.type_matcher_v3 import (
    ListStringMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy._api.type_v3 import HttpStatus, StatusCode
from mcp_extproc.envoy.attach.fields import CannotAttach, Object, get, object_at, objects, plain, put, take
from mcp_extproc.envoy.attach.parts import is_ours
from mcp_extproc.envoy.attach.target import Choice, Target
from mcp_extproc.envoy.attach.warnings import unsafe_spellings
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER, OWN, Layout
from mcp_extproc.envoy.render.denials import denials
from mcp_extproc.envoy.render.processors import headers_first, retries
from mcp_extproc.envoy.render.typed import any_of, seconds, text_format
from mcp_extproc.gateway.policy.inspect import READS

FILTER = f"{OWN}pass_through"

_FILTER_CONFIG = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
_LIMIT = "request_body_buffer_limit"
_OLD_LIMIT = "per_request_buffer_limit_bytes"
_OURS = "pass_through"
"""In the metadata of a route or virtual host: the limit was added by us."""


def filter_for(config: GatewayConfig, layout: Layout) -> Object:
    """The HTTP filter: behind authentication, in front of policies. It is disabled except on selected routes."""
    namespaces = [NAMESPACE, *config.more_namespaces, MARKER_NAMESPACE]
    processor = ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXTPROC_CLUSTER, skip_envoy_headers=True),
            retry_policy=retries(layout),
            initial_metadata=[HeaderValue(key=PASS_THROUGH_KEY, value="1")],
        ),
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        processing_mode=headers_first(),
        allow_mode_override=True,
        message_timeout=seconds(MESSAGE_TIMEOUT),
        forward_rules=HeaderForwardingRules(
            allowed_headers=ListStringMatcher(patterns=[StringMatcher(exact=name) for name in READS])
        ),
        metadata_options=MetadataOptions(
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=namespaces)
        ),
    )  # fmt: skip
    return {**plain(HttpFilter(name=FILTER, typed_config=any_of(processor))), "disabled": True}


def mappers(config: GatewayConfig) -> list[Object]:
    """For ``local_reply_config``: errors for MCP messages that the gateway or a policy denied. Other responses are
    unchanged."""
    untouched = ResponseMapper(
        filter=_is_true(NAMESPACE, "answered"), body_format_override=text_format("%LOCAL_REPLY_BODY%")
    )
    found = [untouched, *denials(config)]
    for mapper in found:
        assert mapper.filter is not None
        was_read = _is_true(MARKER_NAMESPACE, READ_KEY)
        mapper.filter = AccessLogFilter(and_filter=AndFilter(filters=[was_read, mapper.filter]))
    return [plain(mapper) for mapper in found]


def _is_true(namespace: str, key: str) -> AccessLogFilter:
    matcher = MetadataMatcher(
        filter=namespace, path=[MetadataMatcherPathSegment(key=key)], value=ValueMatcher(bool_match=True)
    )
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=False))


# -- Where ----------------------------------------------------------------------------------------------------------------


def enable(target: Target, choice: Choice, config: GatewayConfig) -> None:
    """Enable the filter on the selected routes and virtual hosts.

    Raises:
        CannotAttach: there are none of that name, or several with that path.
    """
    hosts = objects(object_at(target.manager, "route_config"), "virtual_hosts")
    for name in choice.pass_through_hosts:
        found = [host for host in hosts if get(host, "name") == name]
        if not found:
            raise CannotAttach(f"listener {target} has no virtual host {name!r}; it has {_listed(map(_name, hosts))}")
        for host in found:
            _check_limits([host, *_routes(host)], config)
            _enable(host, config)
            for route in filter(is_ours, objects(host, "routes")):
                # The endpoint, which has filters of its own.
                configs = object_at(route, "typed_per_filter_config")
                put(route, "typed_per_filter_config", {**configs, FILTER: {"@type": _FILTER_CONFIG, "disabled": True}})
    for wanted in choice.pass_through:
        by_path = wanted.startswith("/")
        for route in _by_path(wanted, hosts, choice, target) if by_path else _by_name(wanted, hosts, target):
            _check_limits([route], config)
            _enable(route, config)


def cautions(target: Target) -> list[str]:
    """Warnings for the listener's owner: routes to a server on which requests are not inspected."""
    found = []
    hosts = objects(object_at(target.manager, "route_config"), "virtual_hosts")
    read = {id(route): _is_on(host) or _is_on(route) for host in hosts for route in _routes(host)}
    clusters = {_cluster(route) for host in hosts for route in _routes(host) if read[id(route)]} - {""}
    around = [
        f"{_what(route)} of {_what(host)}"
        for host in hosts
        for route in _routes(host)
        if not read[id(route)] and _cluster(route) in clusters
    ]
    if around:
        found.append(
            f"{', '.join(around)}: it leads to a cluster of an inspected route, but its own requests are not inspected."
            " If MCP is served there, select it with --pass-through, too"
        )
    reasons = unsafe_spellings(target.manager)
    if reasons is not None:
        found.append(
            "a path in another spelling can match another route in Envoy, without inspection, but be the same path for a"
            f" server: {reasons}. Consider setting them on the HTTP connection manager"
        )
    return found


def _is_on(place: Object) -> bool:
    return FILTER in object_at(place, "typed_per_filter_config")


def _cluster(route: Object) -> str:
    return str(get(object_at(route, "route"), "cluster", ""))


def snippet(config: GatewayConfig) -> Object:
    """The additions to a route, to paste."""
    route: Object = {}
    _enable(route, config)
    return {name: value for name, value in route.items() if name != "metadata"}


def _by_name(wanted: str, hosts: list[Object], target: Target) -> list[Object]:
    found = [route for host in hosts for route in _routes(host) if get(route, "name") == wanted]
    if not found:
        names = {_name(route) for host in hosts for route in _routes(host)} - {""}
        raise CannotAttach(
            f"listener {target} has no route {wanted!r} to pass requests through; it has"
            f" {_listed(names) or 'none with a name'}. Name one of them, the path or prefix that a route matches, or a virtual"
            " host with --pass-through-host"
        )
    return found


def _by_path(wanted: str, hosts: list[Object], choice: Choice, target: Target) -> list[Object]:
    """The routes whose match is exactly this path or prefix. A longer or shorter one is another route, for other
    requests."""
    matches = [(host, [route for route in _routes(host) if wanted in _paths(route)]) for host in hosts]
    found = [(host, routes) for host, routes in matches if routes]
    chosen = [(host, routes) for host, routes in found if get(host, "name") in choice.virtual_hosts]
    found = chosen or found
    if not found:
        known = {path for host in hosts for route in _routes(host) for path in _paths(route)}
        raise CannotAttach(
            f"no route of listener {target} matches exactly the path or prefix {wanted} to pass requests through; there are"
            f" {_listed(known) or 'none'}. Add a route for it, or name another one"
        )
    if len(found) > 1:
        raise CannotAttach(
            f"several virtual hosts of listener {target} have a route for {wanted}:"
            f" {_listed(_name(host) for host, _ in found)}. Say which with --virtual-host, or by the route's name"
        )
    return found[0][1]


def _routes(host: Object) -> list[Object]:
    return [route for route in objects(host, "routes") if not is_ours(route)]


def _paths(route: Object) -> set[str]:
    match = object_at(route, "match")
    return {
        str(get(match, kind)) for kind in ("path", "prefix", "path_separated_prefix") if get(match, kind) is not None
    }


def _enable(place: Object, config: GatewayConfig) -> None:
    configs = object_at(place, "typed_per_filter_config")
    configs[FILTER] = {"@type": _FILTER_CONFIG, "config": {}}
    put(place, "typed_per_filter_config", configs)
    if get(place, _LIMIT) is None:
        put(place, _LIMIT, config.limits.request_bytes)
        metadata = object_at(place, "metadata")
        known = object_at(metadata, "filter_metadata")
        put(metadata, "filter_metadata", known | {MARKER_NAMESPACE: {_OURS: True}})
        put(place, "metadata", metadata)


def _check_limits(places: Iterable[Object], config: GatewayConfig) -> None:
    """Envoy's buffer has to hold every allowed body, or the request would get no response."""
    for place in places:
        if get(place, _OLD_LIMIT) is not None:
            raise CannotAttach(
                f"{_what(place)} has {_OLD_LIMIT}, which Envoy does not allow together with {_LIMIT}: use the latter"
            )
        limit = get(place, _LIMIT)
        if limit is not None and int(str(limit)) < config.limits.request_bytes:
            raise CannotAttach(
                f"{_what(place)} has {_LIMIT} {limit}, and the gateway's limits.request_bytes is"
                f" {config.limits.request_bytes}: raise the former or lower the latter"
            )


def disable(manager: Object) -> None:
    """Remove what :func:`enable` added to routes and virtual hosts."""
    for host in objects(object_at(manager, "route_config"), "virtual_hosts"):
        for place in (host, *_routes(host)):
            _take_from(place, "typed_per_filter_config", FILTER)
            metadata = object_at(place, "metadata")
            known = object_at(metadata, "filter_metadata")
            if _OURS in object_at(known, MARKER_NAMESPACE):
                take(place, _LIMIT)
                _take_from(metadata, "filter_metadata", MARKER_NAMESPACE)
                if not metadata:
                    take(place, "metadata")


def _take_from(data: Object, field: str, key: str) -> None:
    """Remove a key of a mapping, and the mapping if it is empty then."""
    mapping = object_at(data, field)
    if mapping.pop(key, None) is not None and not mapping:
        take(data, field)


def _name(item: Object) -> str:
    return str(get(item, "name", ""))


def _what(place: Object) -> str:
    if get(place, "domains") is not None:
        return f"virtual host {_name(place)!r}"
    return f"route {_name(place)!r}" if _name(place) else f"the route for {_listed(_paths(place))}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
