"""The gateway's parts for an existing listener, as plain data.

They are those of the gateway's own listener, with three differences: filters are disabled except on the endpoint's route,
so that other requests are not affected; filters have reserved names, because routes refer to filters by name; and attempts
are counted by the cluster, because the virtual host would send the count to all other services, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import Endpoint, endpoints
from mcp_extproc.contract import ACT_ROUTE, JUDGE_ROUTE, route_of
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_http_set_metadata_v3 import Config as SetMetadata
from mcp_extproc.envoy._api.filters_http_set_metadata_v3 import Metadata
from mcp_extproc.envoy._api.filters_http_upstream_codec_v3 import UpstreamCodec
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy.attach.fields import Object, get, plain
from mcp_extproc.envoy.layout import ATTACHED, MARKER_KEY, MARKER_NAMESPACE, OWN, Layout
from mcp_extproc.envoy.render import cors, local_replies, policies, rate_limits, records, routes, trailing_slash
from mcp_extproc.envoy.render.authentication import api_keys, certificates, documents, proven
from mcp_extproc.envoy.render.authentication import filters as authentication
from mcp_extproc.envoy.render.authentication.sections import sections
from mcp_extproc.envoy.render.clusters import clusters, extproc_cluster
from mcp_extproc.envoy.render.endpoint_match import match_of
from mcp_extproc.envoy.render.judging import Judging
from mcp_extproc.envoy.render.listeners import client_filters, own_listeners
from mcp_extproc.envoy.render.typed import any_of, header

_FILTER_CONFIG = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
EARLY = f"{OWN}identity"
"""Name of an extension of a listener."""
_CERTIFICATE = OWN + certificates.FILTER.removeprefix("mcp_")
_GENERAL = ("envoy.filters.http.", "mcp_")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parts by place."""

    first_filters: list[Object]
    """The first HTTP filters. One marks requests to the endpoint, for :attr:`mappers`; the others are for browsers, whose
    preflights have no credentials."""
    filters: list[Object]
    """HTTP filters behind authentication and in front of policies."""
    last_filters: list[Object]
    """HTTP filters behind policies; none unless policies apply to each request before it is processed."""
    routes: list[Object]
    """First routes of the virtual host."""
    documents: list[Object]
    """Routes in front of these: what clients are told about authentication, which has no filter."""
    redirects: list[list[Object]]
    """Routes to each endpoint, behind these: from its path with another ending."""
    early: list[Object]
    """``early_header_mutation_extensions``: they take headers that filters of ours write."""
    rate_limits: list[Object]
    """Rate limits of the virtual host. Their stage is reserved."""
    mappers: list[Object]
    """First mappers of ``local_reply_config``."""
    logs: list[Object]
    """Access loggers: records of requests to the endpoint."""
    clusters: list[Object]
    listeners: list[Object]
    """Private listeners. ``mcp_batches`` is not among them: it is a copy of the clients' listener."""


def is_ours(item: Object) -> bool:
    """Whether an HTTP filter or a route of a listener is one of these parts."""
    return str(get(item, "name", "")).startswith((OWN, JUDGE_ROUTE, ACT_ROUTE))


def reads_certificate(item: Object) -> bool:
    """Whether an HTTP filter is the one that reads clients' certificates."""
    name = str(get(item, "name", ""))
    return name == _CERTIFICATE or name.startswith(f"{_CERTIFICATE}/")


def pieces(config: GatewayConfig, layout: Layout, judging: Judging) -> Pieces:
    """All parts.

    Args:
        config: the gateway's.
        layout: addresses of Envoy and the workers.
        judging: when policies, configured or existing, judge requests.
    """
    layout = replace(layout, owns_listener=False)
    filters = [plain(item) for item in client_filters(config, layout, judging)]
    names = _own_names([item["name"] for item in filters])
    marker = plain(_marker())
    attached = [_disabled(item, names[item["name"]]) for item in filters]
    browsers = len(cors.filters())
    first = _in_front(list(names), judging)
    told = documents.routes(endpoints(config), layout, [], names[routes.BUFFER])
    return Pieces(
        first_filters=[_disabled(marker, marker["name"]), *attached[:browsers]],
        filters=attached[browsers:first],
        last_filters=attached[first:],
        routes=[
            *(_no_upgrades(endpoint, marker["name"]) for endpoint in endpoints(config)),
            *_routes(config, layout, names, marker["name"], judging),
        ],
        documents=[_without_empty(plain(route)) for route in told],
        redirects=[[plain(route) for route in trailing_slash.redirects(endpoint)] for endpoint in endpoints(config)],
        early=[{**plain(item), "name": EARLY} for item in proven.early(_early(config))],
        rate_limits=[plain(item) for item in rate_limits.descriptors(config)],
        mappers=[plain(mapper) for mapper in local_replies.endpoint_replies(config)],
        logs=[plain(item) for item in records.log(config, layout, records.marked(MARKER_NAMESPACE, MARKER_KEY))],
        clusters=[_cluster(plain(item)) for item in clusters(config, layout)],
        listeners=[plain(listener) for listener in own_listeners(config, layout)],
    )


def worker_cluster(layout: Layout) -> Object:
    """The cluster of the workers."""
    return _cluster(plain(extproc_cluster(layout)))


def _early(config: GatewayConfig) -> list[str]:
    """Other requests of the listener may well have headers of other names: a filter of the endpoint takes these."""
    return [name for name in authentication.identity_headers(config) if name.startswith("x-mcp-")]


# -- Filters --------------------------------------------------------------------------------------------------------------


def _in_front(names: list[str], judging: Judging) -> int:
    """How many of the filters come before policies."""
    match judging:
        case Judging.NEVER:
            return names.index(policies.VETTING) if policies.VETTING in names else len(names)
        case Judging.EARLY:
            return names.index(policies.JUDGED_LENGTH) + 1
        case Judging.FIRST:
            return names.index(policies.JUDGE) + 1


def _own_names(names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        short = next((name.removeprefix(start) for start in _GENERAL if name.startswith(start)), name)
        found[name] = OWN + (name if OWN + short in found.values() else short)
    return found


def _disabled(item: Object, name: str) -> Object:
    return {**item, "name": name, "disabled": True}


def _marker() -> HttpFilter:
    mark = Metadata(metadata_namespace=MARKER_NAMESPACE, value={MARKER_KEY: True})
    return HttpFilter(name=f"{OWN}marker", typed_config=any_of(SetMetadata(metadata=[mark])))


# -- Routes ---------------------------------------------------------------------------------------------------------------


def _routes(
    config: GatewayConfig, layout: Layout, names: dict[str, str], marker: str, judging: Judging
) -> list[Object]:
    of_endpoints = routes.endpoint_routes(config, layout)
    rendered = policies.through(config, of_endpoints, judging)
    for_all = {**policies.for_the_endpoint(config), **api_keys.on_virtual_host(sections(config))}
    everywhere = {name: plain(item) for name, item in for_all.items()}
    all_routes = [plain(route) for route in rendered]
    for route in all_routes:
        configs = {**everywhere, **route.pop("typed_per_filter_config", {})}
        route["typed_per_filter_config"] = {names.get(name, name): item for name, item in configs.items()}
    # Which filters a request has is decided once, by its first route. The others come later, by metadata.
    count = len(of_endpoints.first)
    later, firsts = all_routes[:-count], all_routes[-count:]
    for first in firsts:
        chosen = first["typed_per_filter_config"]
        first["typed_per_filter_config"] = {name: _enabled(chosen.get(name, {})) for name in (marker, *names.values())}
    return [*(_without_empty(route) for route in later), *firsts]


def _without_empty(route: Object) -> Object:
    return {name: value for name, value in route.items() if value or name != "typed_per_filter_config"}


def _no_upgrades(endpoint: Endpoint, marker: str) -> Object:
    """Where the listener lets WebSockets pass, one to the endpoint would be a request whose body never ends."""
    match = plain(match_of(endpoint))
    headers = [*match.pop("headers", []), {"name": "upgrade", "present_match": True}]
    return {
        "name": f"{OWN}upgrade/{route_of(endpoint.name)}" if endpoint.name else f"{OWN}upgrade",
        "match": {**match, "headers": headers},
        "direct_response": {"status": 403},
        "typed_per_filter_config": {marker: _enabled({})},
    }


def _enabled(config: Object) -> Object:
    return config if config.get("@type") == _FILTER_CONFIG else {"@type": _FILTER_CONFIG, "config": config}


# -- Clusters -------------------------------------------------------------------------------------------------------------


def _cluster(cluster: Object) -> Object:
    metadata = cluster.setdefault("metadata", {})
    metadata.setdefault("filter_metadata", {}).update(ATTACHED)
    return _counting(cluster) if cluster["name"].startswith(OWN) else cluster


def _counting(cluster: Object) -> Object:
    """The repair listener recognizes a retry by ``x-envoy-attempt-count``."""
    options: Object = cluster.setdefault("typed_extension_protocol_options", {}).setdefault(_HTTP_OPTIONS, {})
    codec = {"name": "envoy.filters.http.upstream_codec", "typed_config": plain(any_of(UpstreamCodec()))}
    present: list[Any] = options.get("http_filters", [codec])
    options["http_filters"] = [_attempts(), *present]
    return cluster


def _attempts() -> Object:
    count = header("x-envoy-attempt-count", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%")
    mutation = HeaderMutation(mutations=Mutations(request_mutations=[OneMutation(append=count)]))
    return {"name": f"{OWN}attempts", "typed_config": plain(any_of(mutation))}
