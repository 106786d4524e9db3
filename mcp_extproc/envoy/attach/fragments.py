"""The gateway's parts one by one, to paste into configurations whose listeners or routes come from elsewhere."""

from __future__ import annotations

from typing import Any

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy._api.filters_http_router_v3 import Router
from mcp_extproc.envoy.attach import pass_through
from mcp_extproc.envoy.attach.batch_listener import batches_listener
from mcp_extproc.envoy.attach.document import to_yaml
from mcp_extproc.envoy.attach.fields import Object, plain
from mcp_extproc.envoy.attach.parts import Pieces, pieces, worker_cluster
from mcp_extproc.envoy.attach.target import MANAGER, Target
from mcp_extproc.envoy.layout import BATCHES_LISTENER, Layout
from mcp_extproc.envoy.render.judging import Judging
from mcp_extproc.envoy.render.typed import any_of

_HEAD = """\
# The gateway's parts for your own listener. Paste each list at the place in the comment above it. If listeners and routes are
# in one file, `mcp-extproc envoy attach` does this automatically.
"""

_PLACES = {
    "first_http_filters": "http_filters of the HTTP connection manager: in front of all others.",
    "http_filters": (
        "http_filters of the HTTP connection manager: behind the last filter that authenticates (jwt_authn, oauth2,\n"
        "# basic_auth, api_key_auth); in front of rbac, ext_authz, ratelimit and router."
    ),
    "last_http_filters": (
        "http_filters of the HTTP connection manager: behind rbac, ext_authz, ratelimit and all other policies; in front of\n"
        "# router, and of filters directly before it, such as credential_injector or dynamic_forward_proxy."
    ),
    "routes": "routes of the virtual host that serves the endpoint, also where they come by RDS: in front of all others.",
    "well_known_routes": (
        "routes of the same virtual host, in front of all others: what clients are told about authentication. Turn off\n"
        "# filters of yours that authenticate on these routes, by typed_per_filter_config."
    ),
    "redirect_routes": (
        "routes of the same virtual host, behind `routes`, unless you serve something else there: they send clients on to\n"
        "# the endpoint whose URL has one slash too many at its end, or one too few. Turn off filters of yours that\n"
        "# authenticate on these routes, too."
    ),
    "early_header_mutation_extensions": "early_header_mutation_extensions of the HTTP connection manager.",
    "access_log": "access_log of the HTTP connection manager.",
    "rate_limits": "rate_limits of the same virtual host.",
    "local_reply_mappers": "local_reply_config.mappers of the HTTP connection manager: in front of all others.",
    "pass_through_http_filters": (
        "http_filters of the HTTP connection manager, for pass-through: behind authentication, in front of rbac, ext_authz,\n"
        "# ratelimit and router."
    ),
    "pass_through_route": "each route or virtual host whose requests are to be inspected.",
    "pass_through_local_reply_mappers": "local_reply_config.mappers of the HTTP connection manager: in front of all others.",
    "clusters": "static_resources.clusters, or CDS.",
    "listeners": (
        "static_resources.listeners, or LDS. Give mcp_batches the HTTP filters of your own listener in the same order, with\n"
        "# their settings, so that each message of a batch passes the same policies; without it, batches get errors."
    ),
}


def fragments(config: GatewayConfig, layout: Layout) -> str:
    """YAML: a list for each place, with a comment about the place."""
    lists = _endpoint(config, layout) if config.servers else {"clusters": [worker_cluster(layout)]}
    if "pass_through" in config.model_fields_set:
        lists |= {
            "pass_through_http_filters": [pass_through.filter_for(config, layout)],
            "pass_through_route": pass_through.snippet(config),
            "pass_through_local_reply_mappers": pass_through.mappers(config),
        }
    ordered = {name: lists[name] for name in _PLACES if lists.get(name)}
    return _HEAD + "".join(f"\n# {_PLACES[name]}\n{to_yaml({name: items})}" for name, items in ordered.items())


def _endpoint(config: GatewayConfig, layout: Layout) -> dict[str, Any]:
    # Nobody knows what will be between the two.
    parts = pieces(config, layout, Judging.FIRST if config.envoy.policies == "all" else Judging.NEVER)
    return {
        "first_http_filters": parts.first_filters,
        "http_filters": parts.filters,
        "last_http_filters": parts.last_filters,
        "routes": parts.routes,
        "well_known_routes": parts.documents,
        "redirect_routes": [route for redirects in parts.redirects for route in redirects],
        "early_header_mutation_extensions": parts.early,
        "access_log": parts.logs,
        "rate_limits": parts.rate_limits,
        "local_reply_mappers": parts.mappers,
        "clusters": parts.clusters,
        "listeners": [*parts.listeners, _batches(parts, layout)],
    }


def _batches(parts: Pieces, layout: Layout) -> Object:
    host: Object = {"name": BATCHES_LISTENER, "domains": ["*"], "routes": parts.routes}
    router = {"name": "envoy.filters.http.router", "typed_config": plain(any_of(Router(suppress_envoy_headers=True)))}
    manager: Object = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "route_config": {"name": BATCHES_LISTENER},
        "http_filters": [*parts.first_filters, *parts.filters, *parts.last_filters, router],
        "local_reply_config": {"mappers": parts.mappers},
        **({"early_header_mutation_extensions": parts.early} if parts.early else {}),
        **({"access_log": parts.logs} if parts.logs else {}),
    }
    network_filter: Object = {"name": "envoy.filters.network.http_connection_manager"}
    return batches_listener(Target({}, {}, network_filter, manager), [host], layout)
