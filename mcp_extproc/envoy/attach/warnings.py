"""Warnings for the owner of a listener about settings that are unsafe for MCP."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.attach.fields import Object, get, is_true, object_at, objects, words
from mcp_extproc.envoy.attach.filter_order import JUDGES, Places, filter_name, kinds
from mcp_extproc.envoy.attach.target import Target
from mcp_extproc.envoy.message import camel

_OF_THE_CONNECTION = frozenset(
    spelling
    for field in (
        "authenticated", "direct_remote_ip", "source_ip", "requested_server_name", "destination_ip", "destination_port",
        "destination_port_range", "include_peer_certificate", "include_tls_session", "source", "connection",
    )
    for spelling in (field, camel(field))
)  # fmt: skip
"""Fields by which a policy depends on the client's connection, which messages of batches don't have."""

_REMOTE = frozenset({"remote_ip", "remoteIp"})
"""The same, if Envoy does not write the client's address into a header."""

_CONNECTION_INPUT = re.compile(r"common_inputs\.(network|ssl)\.")
"""The same in a matcher tree."""

_SAFE = {
    "use_remote_address": "clients can spoof their address in x-forwarded-for, and set x-envoy-* headers",
    "normalize_path": "/x/../y and /y are two paths for policies by path, and may be one for a service",
    "merge_slashes": "so are //y and /y",
    "path_with_escaped_slashes_action": "so are /x%2Fy and /x/y (REJECT_REQUEST is the safe value)",
}


@dataclass(frozen=True, slots=True)
class Cautions:
    """Warnings, and consequences."""

    sentences: list[str]
    batches_pass: bool
    """Whether policies can apply to messages of batches as to single messages."""


def cautions(
    target: Target, hosts: list[Object], filters: list[Object], where: Places, config: GatewayConfig
) -> Cautions:
    """Check a listener before the gateway is added.

    Args:
        target: the clients' listener.
        hosts: the virtual hosts with the endpoint.
        filters: the existing HTTP filters.
        where: insertion points of the gateway's filters.
        config: the gateway's.
    """
    behind = filters[where.first :]
    no_batches = [_by_connection(target, filters), _counted_by_envoy(target, hosts, filters, config)]
    found = [
        *no_batches,
        _judged_late(behind) if config.envoy.policies == "calls" else None,
        _removed_tokens(filters),
        _pages(behind),
        _hosts(target, hosts, config),
        _spellings(target.manager),
        _short_streams(target.manager),
        _unused(config),
        _vetted(config) if any(no_batches) else None,
    ]
    return Cautions([sentence for sentence in found if sentence is not None], batches_pass=not any(no_batches))


def _vetted(config: GatewayConfig) -> str | None:
    if not config.vetting:
        return None
    return (
        "calls that their users consented to (`vetting` of the gateway's configuration) pass the listener mcp_batches as"
        " messages of batches do: without it they get errors"
    )


def _by_connection(target: Target, filters: list[Object]) -> str | None:
    judges = [item for item in filters if JUDGES & kinds(item)]
    routes = object_at(target.manager, "route_config")
    addresses_in_headers = is_true(get(target.manager, "use_remote_address"))
    named = [filter_name(item) for item in judges if _asks_for_connection(item, addresses_in_headers)]
    for place in (routes, *objects(routes, "virtual_hosts")):
        for name, config in object_at(place, "typed_per_filter_config").items():
            if name in map(filter_name, judges) and _asks_for_connection(config, addresses_in_headers):
                named.append(f"the configuration of {name} on a virtual host")
    if not named:
        return None
    return (
        f"{', '.join(dict.fromkeys(named))} depends on the client's connection (address or certificate), which messages of"
        " batches do not have: there is no listener mcp_batches, and batches (only in MCP 2025-03-26) get errors"
    )


def _asks_for_connection(policy: Object, addresses_in_headers: bool) -> bool:
    asked = set(words(policy))
    if not addresses_in_headers and asked & _REMOTE:
        return True
    return bool(asked & _OF_THE_CONNECTION) or any(_CONNECTION_INPUT.search(word) for word in asked)


def _judged_late(behind: list[Object]) -> str | None:
    named = [filter_name(item) for item in behind if JUDGES & kinds(item)]
    if not named:
        return None
    return (
        f"{', '.join(named)} applies to calls only: with envoy.policies of the gateway's configuration, initialize, lists and"
        " ping are answered in front of it. If access depends on it alone, set `policies: all`"
    )


def _removed_tokens(filters: list[Object]) -> str | None:
    named = [filter_name(item) for item in filters if "jwt_authn" in kinds(item) and _drops_token(item)]
    if not named:
        return None
    return (
        f"{', '.join(named)} removes the token from the request: messages of batches (MCP 2025-03-26) then have none, and are"
        " answered with errors. Set `forward: true` on the provider; the gateway passes no client's token to a server"
    )


def _drops_token(item: Object) -> bool:
    providers = object_at(object_at(item, "typed_config"), "providers")
    return any(isinstance(provider, dict) and not is_true(get(provider, "forward")) for provider in providers.values())


def _pages(behind: list[Object]) -> str | None:
    named = [filter_name(item) for item in behind if "csrf" in kinds(item)]
    if not named:
        return None
    return f"{', '.join(named)} comes after the gateway, which answers initialize and lists before it: move it to the front"


def _hosts(target: Target, hosts: list[Object], config: GatewayConfig) -> str | None:
    listed = config.listen.hosts
    if listed is None:
        return None
    address = str(get(object_at(object_at(target.listener, "address"), "socket_address"), "address", ""))
    local = address.startswith("127.") or address in ("::1", "localhost")
    domains = {str(domain) for host in hosts for domain in get(host, "domains", [])}
    if (local or listed) and domains <= {"*", "localhost", "localhost:*", "127.0.0.1", "[::1]", *listed}:
        return None
    return (
        f"listen.address of the gateway's configuration is {config.listen.address}, so that it accepts only hosts such as"
        " localhost and rejects others with 403. Set it to 0.0.0.0, or to another address that is not local, or"
        " list the names in listen.allowed_hosts"
    )


def _spellings(manager: Object) -> str | None:
    reasons = unsafe_spellings(manager)
    if reasons is None:
        return None
    return (
        "the endpoint is served only at its exact path and spelling, but policies of this listener could be bypassed:"
        f" {reasons}. Consider setting them on the HTTP connection manager"
    )


def unsafe_spellings(manager: Object) -> str | None:
    """Ways in which a request could bypass policies unless the manager prevents it."""
    missing = [field for field in _SAFE if not _is_safe(manager, field)]
    return "; ".join(f"without {field}, {_SAFE[field]}" for field in missing) or None


def _is_safe(manager: Object, field: str) -> bool:
    value = get(manager, field)
    if field == "path_with_escaped_slashes_action":
        return value is not None and str(value) not in ("IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED")
    if field == "use_remote_address" and get(manager, "original_ip_detection_extensions") is not None:
        return True
    return is_true(value)


def _short_streams(manager: Object) -> str | None:
    if get(object_at(manager, "common_http_protocol_options"), "max_stream_duration") is None:
        return None
    return "max_stream_duration of the HTTP connection manager ends long calls and open streams"


def _counted_by_envoy(target: Target, hosts: list[Object], filters: list[Object], config: GatewayConfig) -> str | None:
    limiting = {filter_name(item): item for item in filters if "local_ratelimit" in kinds(item)}
    here = [target.manager, object_at(target.manager, "route_config"), *hosts]
    named = [
        name
        for name, item in limiting.items()
        # Without a default token bucket, it applies only to routes that have one.
        if any(_has_bucket(config) for config in (
            object_at(item, "typed_config"), *(object_at(object_at(place, "typed_per_filter_config"), name) for place in here)
        ))
    ]  # fmt: skip
    if config.counts_locally:
        named.append("rate_limits or envoy.http_filters of the gateway's configuration")
    if not named:
        return None
    return (
        f"{', '.join(named)}: Envoy counts for each listener separately, and messages of batches would have a separate"
        " limit: there is no listener mcp_batches, and batches (only in MCP 2025-03-26) get errors. A global limit"
        " counts both"
    )


def _has_bucket(config: Object) -> bool:
    return get(config, "token_bucket") is not None or bool(get(config, "descriptors"))


def _unused(config: GatewayConfig) -> str | None:
    unused = [
        name
        for name, is_set in (
            ("listen.tls", config.listen.tls is not None),
            ("listen.limits", "limits" in config.listen.model_fields_set),
            ("overload", "overload" in config.model_fields_set),
            ("log.access", bool(config.log.access) and "access" in config.log.model_fields_set),
        )
        if is_set
    ]
    if not unused:
        return None
    return f"{', '.join(unused)} of the gateway's configuration have no effect here: this Envoy has its own"
