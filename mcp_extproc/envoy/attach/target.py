"""The part of a bootstrap to which the gateway is added: one HTTP connection manager, and virtual hosts of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mcp_extproc.envoy.attach.fields import CannotAttach, Object, get, is_true, message_type, object_at, objects
from mcp_extproc.envoy.layout import PRIVATE_LISTENERS

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

FRAGMENTS = "print the parts with `mcp-extproc envoy fragments`, and paste them"


@dataclass(frozen=True, slots=True)
class Choice:
    """The user's choice."""

    listener: str | None = None
    filter_chain: str | None = None
    virtual_hosts: tuple[str, ...] = ()
    pass_through: tuple[str, ...] = ()
    """Routes to inspect: by name, or by the path or prefix that they match."""
    pass_through_hosts: tuple[str, ...] = ()
    """Virtual hosts to inspect."""
    without_jwt_authn: bool = False
    """Whether the listener's own jwt_authn is turned off for the endpoint."""


@dataclass(frozen=True, slots=True)
class Target:
    """An HTTP connection manager and its place. All members are the bootstrap's own data, not copies."""

    listener: Object
    chain: Object
    network_filter: Object
    """The filter chain with the manager."""
    manager: Object

    def __str__(self) -> str:
        chain = get(self.chain, "name")
        return f"{_name(self.listener)}{f', filter chain {chain}' if chain else ''}"


def managers(bootstrap: Object) -> Iterator[Target]:
    """All HTTP connection managers of the bootstrap's static listeners."""
    for listener in objects(object_at(bootstrap, "static_resources"), "listeners"):
        default = object_at(listener, "default_filter_chain")
        for chain in [*objects(listener, "filter_chains"), *([default] if default else [])]:
            for network_filter in objects(chain, "filters"):
                manager = object_at(network_filter, "typed_config")
                if message_type(manager) == MANAGER:
                    yield Target(listener, chain, network_filter, manager)


def choose_manager(bootstrap: Object, choice: Choice) -> Target:
    """Select the manager.

    Raises:
        CannotAttach: there is none, the choice is ambiguous, or its routes are not in the bootstrap.
    """
    found = [target for target in managers(bootstrap) if get(target.listener, "name") not in PRIVATE_LISTENERS]
    if not found:
        raise CannotAttach(_no_manager(bootstrap))
    target = _one(found, choice)
    for elsewhere in ("rds", "scoped_routes"):
        if get(target.manager, elsewhere) is not None:
            raise CannotAttach(
                f"the routes of listener {target} are not in this file but come by {elsewhere}: {FRAGMENTS} there"
            )
    return target


def _no_manager(bootstrap: Object) -> str:
    if get(object_at(bootstrap, "dynamic_resources"), "lds_config") is not None:
        return f"the listeners are not in this file but come from dynamic_resources.lds_config: {FRAGMENTS} there"
    return (
        "no listener in static_resources has an HTTP connection manager (a network filter with typed_config"
        f" {MANAGER}), so nothing routes HTTP requests. Add one, or use `mcp-extproc envoy bootstrap`,"
        " which prints a whole configuration"
    )


def _one(found: list[Target], choice: Choice) -> Target:
    left = found
    if choice.listener is not None:
        left = [target for target in left if get(target.listener, "name") == choice.listener]
        if not left:
            names = _listed({_name(target.listener) for target in found})
            raise CannotAttach(
                f"no listener {choice.listener!r} has an HTTP connection manager; those that do: {names}"
            )
    if choice.filter_chain is not None:
        names = _listed({str(get(target.chain, "name", "(without a name)")) for target in left})
        left = [target for target in left if get(target.chain, "name") == choice.filter_chain]
        if not left:
            raise CannotAttach(
                f"no filter chain {choice.filter_chain!r} has an HTTP connection manager; those that do: {names}"
            )
    if len(left) > 1 and choice.virtual_hosts:
        left = [target for target in left if _has_all(target, choice.virtual_hosts)] or left
    if len(left) > 1:
        several = "; ".join(str(target) for target in left)
        raise CannotAttach(
            f"the HTTP connection manager is ambiguous: {several}. Select one with --listener, --filter-chain or"
            " --virtual-host"
        )
    return left[0]


def virtual_hosts(target: Target, choice: Choice) -> list[Object]:
    """Select the virtual hosts for the endpoint.

    Raises:
        CannotAttach: a named one does not exist, or the choice is ambiguous.
    """
    hosts = objects(object_at(target.manager, "route_config"), "virtual_hosts")
    if not hosts:
        raise CannotAttach(
            f"the route_config of listener {target} has no virtual host: add one for the endpoint's domains"
        )
    names = [str(get(host, "name", "")) for host in hosts]
    if not choice.virtual_hosts:
        if len(hosts) > 1:
            raise CannotAttach(
                f"listener {target} has several virtual hosts: {_listed(names)}. Select those for the endpoint with"
                " --virtual-host; the option can be given more than once"
            )
        return hosts
    for wanted in choice.virtual_hosts:
        if wanted not in names:
            raise CannotAttach(f"listener {target} has no virtual host {wanted!r}; it has {_listed(names)}")
    return [host for host, name in zip(hosts, names, strict=True) if name in choice.virtual_hosts]


def check_routes(host: Object, path: str, key: str = "listen.path") -> None:
    """Check that nothing else of a virtual host is served at the endpoint's path.

    Args:
        host: the virtual host.
        path: of the endpoint.
        key: where the gateway's configuration says that.

    Raises:
        CannotAttach: a route has that path, or the host has no list of routes.
    """
    if get(host, "matcher") is not None:
        raise CannotAttach(
            f"virtual host {_name(host)} selects routes by a matcher tree, to which routes can't be added:"
            " put the endpoint on a virtual host with a list of routes"
        )
    for route in objects(host, "routes"):
        if _is_for(object_at(route, "match"), path):
            name = get(route, "name")
            raise CannotAttach(
                f"virtual host {_name(host)} has a route for {path} already{f' ({name})' if name else ''}:"
                f" remove it, or set {key} in the gateway's configuration to another path"
            )


def may_serve(host: Object, path: str) -> bool:
    """Whether a route of a virtual host may take requests to a path, among others or alone."""
    return any(_may_take(object_at(route, "match"), path) for route in objects(host, "routes"))


def _may_take(match: Object, path: str) -> bool:
    if get(match, "connect_matcher") is not None:
        return False
    text = path if is_true(get(match, "case_sensitive", True)) else path.lower()
    if (exact := get(match, "path")) is not None:
        return str(exact) == path or str(exact).lower() == text
    if (prefix := get(match, "prefix") or get(match, "path_separated_prefix")) is not None:
        return path.startswith(str(prefix)) or text.startswith(str(prefix).lower())
    pattern = get(object_at(match, "safe_regex"), "regex")
    # What can't be told is theirs.
    return pattern is None or _matches(str(pattern), path, unreadable=True)


def check_domains(hosts: list[Object], domains: Collection[str], key: str) -> None:
    """Check that requests to an endpoint with host names of its own reach one of the virtual hosts.

    Args:
        hosts: the virtual hosts.
        domains: host names of the endpoint, in lower case.
        key: of the gateway's configuration that names them.

    Raises:
        CannotAttach: there is one of which none does.
    """
    served = [str(domain).lower() for host in hosts for domain in get(host, "domains", [])]
    for domain in sorted(domains):
        if not any(_takes(pattern, domain) for pattern in served):
            raise CannotAttach(
                f"no virtual host that MCP is attached to has the domain {domain} of {key}: add it to the domains of one, or"
                " select the one that has it with --virtual-host, which can be given more than once"
            )


def _takes(pattern: str, domain: str) -> bool:
    """Whether a virtual host's domain, whose wildcard stands for any characters, is also an endpoint's."""
    if pattern == "*" or pattern.partition(":")[0] == domain:
        return True
    return pattern.startswith("*") and domain.endswith(pattern[1:]) and domain != pattern[1:]


def check_well_known(host: Object, path: str) -> None:
    """Check that nobody else serves a document.

    Raises:
        CannotAttach: a route was made for it.
    """
    for route in objects(host, "routes"):
        match = object_at(route, "match")
        prefix = str(get(match, "prefix") or get(match, "path_separated_prefix") or "")
        if _is_for(match, path) or (prefix.startswith("/.well-known") and path.startswith(prefix)):
            name = get(route, "name")
            raise CannotAttach(
                f"virtual host {_name(host)} has a route for {path} already{f' ({name})' if name else ''}, where clients look"
                " for the metadata of the MCP endpoint (RFC 9728): remove it, give the endpoint a virtual host of its own, or"
                " authenticate with your own filters and authentication.existing"
            )


def _is_for(match: Object, path: str) -> bool:
    if any(get(match, kind) == path for kind in ("path", "prefix", "path_separated_prefix")):
        # A prefix of exactly this path was made for another service; `/` was not, nor `/api/` for `/api/mcp`.
        return path != "/" or get(match, "path") == path
    if not is_true(get(match, "case_sensitive", True)) and str(get(match, "path", "")).lower() == path.lower():
        return True
    pattern = get(object_at(match, "safe_regex"), "regex")
    return pattern is not None and _matches(str(pattern), path) and not _matches(str(pattern), "/any-other-path")


def _matches(pattern: str, path: str, *, unreadable: bool = False) -> bool:
    """Whether an expression matches a path. Envoy's (RE2) are not all valid in Python."""
    try:
        return re.fullmatch(pattern, path) is not None
    except re.error:
        return unreadable


def _has_all(target: Target, names: tuple[str, ...]) -> bool:
    hosts = objects(object_at(target.manager, "route_config"), "virtual_hosts")
    return set(names) <= {get(host, "name") for host in hosts}


def _name(item: Object) -> str:
    return repr(str(get(item, "name", ""))) if get(item, "name") else "(without a name)"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names) if isinstance(names, set) else names)
