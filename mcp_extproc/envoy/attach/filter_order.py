"""Places of the gateway's filters among those of a listener: after authentication, before policies.

Policies read what the gateway writes, so they come later. Authentication comes first, because the gateway responds to many
requests itself. Source: the kinds of filters in Envoy 1.40 (api-v3/extensions/filters/http).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mcp_extproc.config.policies import NATIVE_NAMESPACE
from mcp_extproc.contract import NAMESPACE, SERVER_HEADER
from mcp_extproc.envoy.attach.fields import CannotAttach, Object, get, message_type, object_at, words
from mcp_extproc.envoy.layout import EXTPROC_CLUSTER

AUTHENTICATION = frozenset({"api_key_auth", "basic_auth", "gcp_authn", "jwt_authn", "oauth2"})
"""Authentication filters."""

JUDGES = frozenset({"ext_authz", "rbac"})
"""Filters that allow or deny a request by its properties."""

LIMITS = frozenset({"admission_control", "bandwidth_limit", "local_ratelimit", "rate_limit_quota", "ratelimit"})
"""Policies, too, but some protect the filters after them against overload: in front of authentication they are intended
to be there."""

_TO_THE_SERVER = frozenset({
    "aws_lambda", "aws_request_signing", "cache", "credential_injector", "dynamic_forward_proxy", "router",
    "stateful_session",
})  # fmt: skip
"""Filters that process the request as the server will receive it."""


@dataclass(frozen=True, slots=True)
class Places:
    """Insertion points: indexes among the existing filters."""

    first: int
    """In front of policies."""
    last: int
    """Behind policies, in front of filters that process the request as the server will receive it."""

    @property
    def has_policies(self) -> bool:
        """Whether there is a filter between the two."""
        return self.first < self.last


def places(filters: list[Object], namespaces: Collection[str]) -> Places:
    """Find the insertion points.

    Args:
        filters: those of the HTTP connection manager, without the gateway's.
        namespaces: metadata namespaces that the gateway writes.

    Raises:
        CannotAttach: there is no correct place.
    """
    _check_router(filters)
    _check_workers_are_unused(filters)
    _check_metadata_is_written(filters, namespaces)
    found = [kinds(item) for item in filters]
    last_authentication = max((index for index, kind in enumerate(found) if kind & AUTHENTICATION), default=-1)
    for index, item in enumerate(filters[: max(last_authentication, 0)]):
        reason = _has_to_follow(item, found[index])
        if reason is not None:
            behind = filter_name(filters[last_authentication])
            raise CannotAttach(
                f"the order of the HTTP filters is unsafe: {filter_name(item)} {reason}, so it has to come after the"
                f" gateway's filters, but {behind}, which authenticates, comes after it and has to come before them."
                f" Move {behind} in front of {filter_name(item)}"
            )
    after = range(last_authentication + 1, len(filters))
    policies = [index for index in after if found[index] & (JUDGES | LIMITS) or _reads_ours(filters[index])]
    to_the_server = [index for index in after if found[index] & _TO_THE_SERVER]
    if not policies:
        return Places(to_the_server[0], to_the_server[0])
    return Places(policies[0], next(index for index in to_the_server if index > policies[-1]))


def kinds(item: Object) -> frozenset[str]:
    """A filter's kind: ``rbac``, ``router`` and so on. Several if it is a wrapper or loaded dynamically and may be any
    of them."""
    types = [_message_type(item)]
    discovery = object_at(item, "config_discovery")
    types += [str(url).rpartition("/")[2] for url in get(discovery, "type_urls", [])]
    # envoy.extensions.filters.http.rbac.v3.RBAC
    known = {name.split(".")[-3] for name in types if name.startswith("envoy.extensions.filters.http.")}
    return frozenset(known or {filter_name(item).rpartition(".")[2]})


def _message_type(item: Object) -> str:
    config = object_at(item, "typed_config")
    name = message_type(config)
    # A filter that runs only for matching requests; the one inside counts.
    if name == "envoy.extensions.common.matching.v3.ExtensionWithMatcher":
        return message_type(object_at(object_at(config, "extension_config"), "typed_config"))
    return name


def filter_name(item: Object) -> str:
    """The name in the file."""
    return str(get(item, "name", "(a filter without a name)"))


def _check_router(filters: list[Object]) -> None:
    routers = [index for index, item in enumerate(filters) if "router" in kinds(item)]
    if not routers:
        raise CannotAttach(
            "the listener's HTTP connection manager has no envoy.filters.http.router: something else responds there,"
            " and routes have no effect. Choose another listener, or end its http_filters with a router"
        )
    if routers != [len(filters) - 1]:
        raise CannotAttach(
            "the order of the HTTP filters is unsafe: filters behind envoy.filters.http.router see no request."
            " Make the router the last one, once"
        )


def _check_workers_are_unused(filters: list[Object]) -> None:
    for item in filters:
        if "ext_proc" in kinds(item) and EXTPROC_CLUSTER in words(item):
            raise CannotAttach(
                f"the HTTP filter {filter_name(item)} uses the cluster {EXTPROC_CLUSTER} already, but was not added by"
                " `envoy attach`: remove it and its parts"
            )


def _check_metadata_is_written(filters: list[Object], namespaces: Collection[str]) -> None:
    if NATIVE_NAMESPACE in namespaces or any("mcp" in kinds(item) for item in filters):
        return
    for item in filters:
        if NATIVE_NAMESPACE in words(item):
            raise CannotAttach(
                f"the HTTP filter {filter_name(item)} reads the metadata {NATIVE_NAMESPACE}, which no filter writes, so that"
                " its rules would match nothing. Add it to metadata.namespaces in the gateway's configuration"
            )


def _has_to_follow(item: Object, kind: frozenset[str]) -> str | None:
    if _reads_ours(item):
        return f"reads what the gateway writes ({NAMESPACE}, {SERVER_HEADER})"
    return "judges requests" if JUDGES & kind else None


def _reads_ours(item: Object) -> bool:
    return any(NAMESPACE in word or SERVER_HEADER in word.lower() or word == NATIVE_NAMESPACE for word in words(item))
