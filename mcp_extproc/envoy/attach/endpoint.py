"""Adds the gateway to an existing listener of a bootstrap.

Nothing else changes, in value or order. The added parts have reserved names, so repeating it replaces them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import ConfigError, field
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.envoy.attach import document, pass_through
from mcp_extproc.envoy.attach.batch_listener import batches_listener
from mcp_extproc.envoy.attach.client_certificates import check_certificates
from mcp_extproc.envoy.attach.fields import CannotAttach, Object, extend, get, object_at, objects, put, take, words
from mcp_extproc.envoy.attach.filter_order import AUTHENTICATION, Places, filter_name, kinds, places
from mcp_extproc.envoy.attach.parts import EARLY, Pieces, is_ours, pieces, worker_cluster
from mcp_extproc.envoy.attach.target import (
    Choice,
    Target,
    check_domains,
    check_routes,
    check_well_known,
    choose_manager,
    managers,
    may_serve,
    virtual_hosts,
)
from mcp_extproc.envoy.attach.warnings import cautions
from mcp_extproc.envoy.layout import COLLECTOR_CLUSTER, MARKER_NAMESPACE, PRIVATE_LISTENERS, Layout
from mcp_extproc.envoy.render import judging
from mcp_extproc.envoy.render.judging import Judging
from mcp_extproc.envoy.render.rate_limits import STAGE

_TWO_LAYERS = (
    "the listener has a jwt_authn filter ({}), and authentication.oauth would add another one, with the same metadata: it"
    " would not be clear which of them has verified a token. Leave authentication.oauth out and say in authentication.existing"
    " what yours verifies, or turn yours off for the MCP endpoint with --without-jwt-authn"
)

_TWO_SERVICES = (
    "the listener has an ext_authz filter ({}), and authentication.external.principal_metadata would read what it writes, too."
    " Have your service name callers in a header, authentication.external.principal_header"
)

_KEYS_TO_ADD = (
    "authentication.api_keys: what is printed has no keys, and refuses all. Add `credentials: [{key: KEY, client: NAME}]` to"
    " the config of mcp/api_key_auth (for a virtual server's own keys mcp/api_key_auth/NAME) in typed_per_filter_config of the"
    " routes mcp/endpoint…, of both listeners"
)


@dataclass(frozen=True, slots=True)
class Attached:
    """A bootstrap with the gateway."""

    text: str
    """In the format of the original."""
    warnings: tuple[str, ...]
    """Warnings for the owner of the listener, of one sentence or more."""


def attach(text: str, name: str, config: GatewayConfig, layout: Layout, choice: Choice) -> Attached:
    """Add the gateway to a bootstrap.

    Args:
        text: the bootstrap, YAML or JSON.
        name: of its file, for errors.
        config: the gateway's. Of ``listen``, the path and the accepted hosts are used.
        layout: addresses of the workers and of Envoy's private listeners.
        choice: of the listener and virtual hosts, if there are several.

    Raises:
        ConfigError: the file can't be parsed, or the gateway can't be added correctly, with the reason and what to do.
    """
    bootstrap = document.read(text, name)
    try:
        warnings = _attach(bootstrap.data, config, layout, choice)
    except CannotAttach as error:
        raise ConfigError(name, [str(error)]) from None
    return Attached(bootstrap.write(bootstrap.data), tuple(warnings))


def _attach(bootstrap: Object, config: GatewayConfig, layout: Layout, choice: Choice) -> list[str]:
    _detach(bootstrap)
    reads = bool(choice.pass_through or choice.pass_through_hosts)
    if not config.servers and not reads:
        raise CannotAttach(
            "the gateway's configuration has no servers, so there is no endpoint to add: select the routes whose requests"
            " are to be inspected with --pass-through"
        )
    target = choose_manager(bootstrap, choice)
    theirs = list(objects(target.manager, "http_filters"))
    where = places(theirs, config.more_namespaces)
    sentences = _add_endpoint(bootstrap, config, layout, choice, target, where) if config.servers else []
    if reads:
        _add_pass_through(bootstrap, config, layout, choice, target, theirs[where.first])
        sentences += pass_through.cautions(target)
    return sentences


def _add_endpoint(
    bootstrap: Object, config: GatewayConfig, layout: Layout, choice: Choice, target: Target, where: Places
) -> list[str]:
    hosts = virtual_hosts(target, choice)
    for endpoint in endpoints(config):
        section = field(("virtual_servers", endpoint.name)) if endpoint.name else "listen"
        if endpoint.domains:
            check_domains(hosts, endpoint.domains, f"{section}.hosts")
        elif not endpoint.headers:
            for host in hosts:
                check_routes(host, endpoint.path, f"{section}.path")
    theirs = list(objects(target.manager, "http_filters"))
    _check_services(theirs, config)
    check_certificates(target, config)
    parts = pieces(config, layout, _judging(target, where, config))
    for host in hosts:
        for route in parts.documents:
            check_well_known(host, route["match"]["path"])
    _turn_off(parts, theirs, _verifies_tokens(config), choice)
    resources = object_at(bootstrap, "static_resources")
    _check_free("cluster", objects(resources, "clusters"), parts.clusters)
    found = cautions(target, hosts, theirs, where, config)
    _add_to_manager(target, hosts, parts, where)
    extend(resources, "clusters", parts.clusters)
    extend(resources, "listeners", parts.listeners)
    if found.batches_pass:
        extend(resources, "listeners", [batches_listener(target, hosts, layout)])
    has_keys = any(section.api_keys is not None for _, section in config.authentications())
    return [*found.sentences, *([_KEYS_TO_ADD] if has_keys else [])]


def _check_services(theirs: list[Object], config: GatewayConfig) -> None:
    asked = [section.external for _, section in config.authentications() if section.external is not None]
    services = [filter_name(item) for item in theirs if "ext_authz" in kinds(item)]
    if services and any(external.principal_metadata for external in asked):
        raise CannotAttach(_TWO_SERVICES.format(", ".join(services)))


def _verifies_tokens(config: GatewayConfig) -> bool:
    return any(section.oauth is not None for _, section in config.authentications())


def _turn_off(parts: Pieces, theirs: list[Object], verifies_tokens: bool, choice: Choice) -> None:
    """Have filters that authenticate leave alone what is not for them: nobody has a token who asks where to get one, or who
    has not found the endpoint yet.

    Raises:
        CannotAttach: tokens would be verified twice.
    """
    tokens = [filter_name(item) for item in theirs if "jwt_authn" in kinds(item)]
    if tokens and verifies_tokens and not choice.without_jwt_authn:
        raise CannotAttach(_TWO_LAYERS.format(", ".join(tokens)))
    authenticating = [filter_name(item) for item in theirs if AUTHENTICATION & kinds(item)]
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    for route in (*parts.documents, *(route for redirects in parts.redirects for route in redirects)):
        route.setdefault("typed_per_filter_config", {}).update({name: dict(off) for name in authenticating})
    if choice.without_jwt_authn:
        for route in parts.routes:
            route.setdefault("typed_per_filter_config", {}).update({name: dict(off) for name in tokens})


def _judging(target: Target, where: Places, config: GatewayConfig) -> Judging:
    if not (config.judges_first or (where.has_policies and config.envoy.policies == "all")):
        return Judging.NEVER
    theirs = objects(target.manager, "http_filters")
    between = [*theirs[where.first : where.last], *config.envoy.http_filters]
    routes = [*judging.of_routes(config), object_at(target.manager, "route_config")]
    in_front = [*theirs[: where.first], *config.envoy.http_filters_before]
    is_early = judging.are_blind(between, routes) and judging.show_nothing(in_front, [target.manager])
    # Logs over gRPC are sent all metadata that there is.
    return Judging.EARLY if is_early and not _LOGS_ALL & set(words(target.manager)) else Judging.FIRST


_LOGS_ALL = frozenset(
    f"type.googleapis.com/envoy.extensions.access_loggers.{name}"
    for name in ("grpc.v3.HttpGrpcAccessLogConfig", "wasm.v3.WasmAccessLog")
)


def _add_pass_through(
    bootstrap: Object, config: GatewayConfig, layout: Layout, choice: Choice, target: Target, follower: Object
) -> None:
    """``follower``: the first of the existing filters that has to come after the gateway's."""
    pass_through.enable(target, choice, config)
    index = next(i for i, item in enumerate(objects(target.manager, "http_filters")) if item is follower)
    extend(target.manager, "http_filters", [pass_through.filter_for(config, layout)], at=index)
    _add_mappers(target.manager, pass_through.mappers(config))
    if not config.servers:
        resources = object_at(bootstrap, "static_resources")
        workers = [worker_cluster(layout)]
        _check_free("cluster", objects(resources, "clusters"), workers)
        extend(resources, "clusters", workers)


def _add_to_manager(target: Target, hosts: list[Object], parts: Pieces, where: Places) -> None:
    # From the end, so that indexes stay valid.
    extend(target.manager, "http_filters", parts.last_filters, at=where.last)
    extend(target.manager, "http_filters", parts.filters, at=where.first)
    extend(target.manager, "http_filters", parts.first_filters, at=0)
    for host in hosts:
        extend(host, "routes", [*parts.documents, *parts.routes, *_redirects(parts, host)], at=0)
        extend(host, "rate_limits", parts.rate_limits)
    extend(target.manager, "early_header_mutation_extensions", parts.early)
    extend(target.manager, "access_log", parts.logs)
    _add_mappers(target.manager, parts.mappers)


def _redirects(parts: Pieces, host: Object) -> list[Object]:
    """Those that take nothing that others serve."""
    return [
        route for redirects in parts.redirects for route in redirects if not may_serve(host, route["match"]["path"])
    ]


def _add_mappers(manager: Object, mappers: list[Object]) -> None:
    replies = object_at(manager, "local_reply_config")
    extend(replies, "mappers", mappers, at=0)
    put(manager, "local_reply_config", replies)


def _check_free(kind: str, present: list[Object], ours: list[Object]) -> None:
    taken = {get(item, "name") for item in present} & {item["name"] for item in ours}
    if taken:
        raise CannotAttach(f"there is a {kind} {min(taken)!r} already, and the gateway needs this name: rename it")


# -- What an earlier time added -------------------------------------------------------------------------------------------


def _detach(bootstrap: Object) -> None:
    """Remove the parts that were added before.

    Raises:
        CannotAttach: there are parts with reserved names that were not added by us.
    """
    resources = object_at(bootstrap, "static_resources")
    found = list(managers(bootstrap))
    if not any(is_ours(item) for target in found for item in objects(target.manager, "http_filters")):
        _check_names(resources, found)
        return
    for target in found:
        _detach_manager(target.manager)
    _keep(resources, "clusters", lambda cluster: not _is_our_cluster(cluster))
    _keep(resources, "listeners", lambda listener: get(listener, "name") not in PRIVATE_LISTENERS)


def _detach_manager(manager: Object) -> None:
    pass_through.disable(manager)
    _keep(manager, "http_filters", lambda item: not is_ours(item))
    _keep(manager, "access_log", lambda item: COLLECTOR_CLUSTER not in words(item))
    _keep(manager, "early_header_mutation_extensions", lambda item: get(item, "name") != EARLY)
    for host in objects(object_at(manager, "route_config"), "virtual_hosts"):
        _keep(host, "routes", lambda route: not is_ours(route))
        _keep(host, "rate_limits", lambda item: not _is_our_limit(item))
    replies = object_at(manager, "local_reply_config")
    _keep(replies, "mappers", lambda mapper: MARKER_NAMESPACE not in words(object_at(mapper, "filter")))
    if not replies:
        take(manager, "local_reply_config")


def _keep(data: Object, field: str, wanted: Callable[[Object], bool]) -> None:
    present = objects(data, field)
    kept = [item for item in present if wanted(item)]
    if len(kept) < len(present):
        present[:] = kept
        if not kept:
            take(data, field)


def _check_names(resources: Object, found: list[Target]) -> None:
    hosts = [host for target in found for host in objects(object_at(target.manager, "route_config"), "virtual_hosts")]
    taken = [
        *(("listener", item) for item in objects(resources, "listeners") if get(item, "name") in PRIVATE_LISTENERS),
        *(("route", route) for host in hosts for route in objects(host, "routes") if is_ours(route)),
    ]
    if taken:
        kind, item = taken[0]
        raise CannotAttach(
            f"the {kind} {get(item, 'name')!r} has a name reserved for the gateway, and was not added by `envoy attach`:"
            " rename or remove it"
        )
    if any(_is_our_limit(item) for host in hosts for item in objects(host, "rate_limits")):
        raise CannotAttach(
            f"rate_limits of a virtual host have stage {STAGE}, which is reserved for the gateway: use another"
        )


def _is_our_limit(item: Object) -> bool:
    return str(get(item, "stage", "")) == str(STAGE)


def _is_our_cluster(cluster: Object) -> bool:
    return MARKER_NAMESPACE in object_at(object_at(cluster, "metadata"), "filter_metadata")
