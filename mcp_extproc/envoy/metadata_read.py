"""Which facts about requests (:data:`mcp_extproc.contract.NAMESPACE`) Envoy's configuration reads: others need not be written.

A policy that denies by a fact fails open where the fact is not written. So all are written, unless everything in a listener is
of a type that reads metadata in no other way than those that are found here, and the namespace is mentioned nowhere else.

A table of routes is a resource of its own: Envoy may have an old one beside a new listener, and gives a new one to the
connections that an old listener still drains. So each says for itself what it reads, the listener in its filter's
configuration, the table in the metadata of its routes, and an exchange has both from the request that it is about.

Clusters are not looked at. The filters in those of servers are the gateway's, and read none of it; others get no request of a
client's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import (
    MARKER_NAMESPACE,
    METADATA_KEY,
    NAMESPACE,
    RECORD_FACTS,
    REFUSED_KEY,
    REFUSED_READS,
    ROUTES_READ,
    ROUTES_REMOVE,
)
from mcp_extproc.envoy.attach.fields import Object, message_type, object_at, objects, words
from mcp_extproc.envoy.layout import COLLECTOR_CLUSTER, EXTPROC_CLUSTER
from mcp_extproc.envoy.render.policies import NOWHERE


def ask_for_what_is_read(static: Object, config: GatewayConfig) -> None:
    """Have workers write only the facts that somebody reads, where that is known.

    Args:
        static: the static resources of a complete configuration, with its routes. They are changed.
        config: what they were rendered from.
    """
    if config.metadata.detail == "full":
        return
    namespaces = (NAMESPACE, *config.more_namespaces)
    for listener in objects(static, "listeners"):
        by_listener = keys_read(listener, namespaces, besides="route_config")
        for manager in _managers(listener):
            table = object_at(manager, "route_config")
            by_routes = keys_read(table, namespaces)
            undecided = list(_undecided(table))
            if by_listener is None or by_routes is None or not undecided:
                continue
            routes = f"%METADATA(ROUTE:{MARKER_NAMESPACE}:{ROUTES_READ})%"
            for service in _deciding(manager):
                service.setdefault("initial_metadata", []).append(
                    {"key": METADATA_KEY, "value": f"{_listed(by_listener)};{routes}"}
                )
            for route in undecided:
                told = route.setdefault("metadata", {}).setdefault("filter_metadata", {})
                told.setdefault(MARKER_NAMESPACE, {})[ROUTES_READ] = _listed({ROUTES_REMOVE, *by_routes})


def _listed(keys: Collection[str]) -> str:
    return ",".join(sorted(keys))


def _managers(listener: Object) -> Iterator[Object]:
    for chain in objects(listener, "filter_chains"):
        for item in objects(chain, "filters"):
            manager = object_at(item, "typed_config")
            if "route_config" in manager:
                yield manager


def _deciding(manager: Object) -> Iterator[Object]:
    """The gRPC services of our filters whose workers write what is known of a request."""
    for item in objects(manager, "http_filters"):
        processor = _unwrapped(object_at(item, "typed_config"))
        if message_type(processor) == _PROCESSOR and _is_ours(processor):
            yield processor["grpc_service"]


def _unwrapped(filter: Object) -> Object:
    """The filter that is made where nothing says otherwise (:func:`mcp_extproc.envoy.render.matching.made_unless`)."""
    if "xds_matcher" in filter:
        for name in ("xds_matcher", "on_no_match", "action", "typed_config", "typed_config", "typed_config"):
            filter = object_at(filter, name)
    return filter


def _undecided(table: Object) -> Iterator[Object]:
    """The routes that a request has while a worker decides about it."""
    for host in objects(table, "virtual_hosts"):
        for route in objects(host, "routes"):
            if object_at(route, "route").get("cluster") == NOWHERE:
                yield route


def _is_ours(processor: Mapping[str, Any]) -> bool:
    # An operator may spell it grpcService, and name no cluster of ours: such names are reserved.
    return bool(processor.get("grpc_service", {}).get("envoy_grpc", {}).get("cluster_name") == EXTPROC_CLUSTER)


# -- What is read ---------------------------------------------------------------------------------------------------------


class _TakesAll(Exception):
    """The namespace may be read as a whole, or in a way that is not known."""


def keys_read(data: object, namespaces: Collection[str], *, besides: str = "") -> frozenset[str] | None:
    """The keys in metadata namespaces that a part of a configuration reads; ``None`` if that may be any.

    Args:
        data: the part.
        namespaces: that have the same content.
        besides: name of a field that is left out.
    """
    try:
        return frozenset(_Reader(namespaces, besides).read(data))
    except _TakesAll:
        return None


class _Reader:
    def __init__(self, namespaces: Collection[str], besides: str) -> None:
        self._namespaces = namespaces
        self._besides = besides
        either = "|".join(map(re.escape, namespaces))
        key = rf"(?:{either}):([^:\s()\"%\\]+)(?::[^()\"%\\]*)?"
        self._commands = re.compile(rf'%DYNAMIC_METADATA\({key}\)(?::\d+)?%|"param":"{key}"')
        """As in Envoy's format strings; the second in the JSON of COALESCE."""

    def read(self, data: object, field: str = "") -> Iterator[str]:
        """All keys.

        Raises:
            _TakesAll: they can't be told.
        """
        if isinstance(data, Mapping):
            yield from self._in_object(data)
        elif isinstance(data, str):
            yield from self._in_text(data, field)
        elif isinstance(data, Sequence):
            for item in data:
                yield from self.read(item, field)

    def _in_object(self, data: Mapping[str, Any]) -> Iterator[str]:
        type = str(data.get("@type", "")).rpartition("/")[2]
        if type and type not in _KNOWN:
            raise _TakesAll(type)
        left_out = {self._besides, "@type"}
        if type == _PROCESSOR:
            if not _is_ours(data):
                raise _TakesAll(type)
            left_out.add("metadata_options")
            yield from _read_by_workers(data)
        if type == _RECORDS:
            # Records have all of it; others than our collector may look at anything.
            if COLLECTOR_CLUSTER not in words(data):
                raise _TakesAll(type)
            yield from RECORD_FACTS
        for name in ("filter", "key"):
            if data.get(name) in self._namespaces and (path := data.get("path")):
                yield _first_key(path)
                left_out |= {name, "path"}
        for name, value in data.items():
            if name in left_out:
                continue
            if name in _OPAQUE or self._mentions(name) or (name in _FORMATS and not _is_inline(value)):
                raise _TakesAll(name)
            yield from self.read(value, name)

    def _in_text(self, text: str, field: str) -> Iterator[str]:
        for found in self._commands.finditer(text):
            yield _usable(found[1] or found[2])
        rest = self._commands.sub("", text)
        # An escape in the JSON of COALESCE may stand for any character.
        if self._mentions(rest) or ("COALESCE(" in rest and "\\u" in rest):
            raise _TakesAll(text)
        if (field in _EXPRESSIONS or "CEL(" in rest) and "metadata" in rest:
            raise _TakesAll(text)

    def _mentions(self, text: str) -> bool:
        return any(namespace in text for namespace in self._namespaces)


def _read_by_workers(processor: Mapping[str, Any]) -> Iterator[str]:
    """What our own filter has forwarded, and its workers look at."""
    if REFUSED_KEY in words(processor["grpc_service"]):
        yield from REFUSED_READS


def _is_inline(source: object) -> bool:
    return isinstance(source, Mapping) and set(source) <= {"inline_string", "inlineString"}


def _first_key(path: object) -> str:
    first = path[0] if isinstance(path, Sequence) else None
    return _usable(first.get("key") if isinstance(first, Mapping) else None)


def _usable(key: object) -> str:
    """A key that can be written in a list.

    Raises:
        _TakesAll: it is none.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _TakesAll(key)
    return key


_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_EXPRESSIONS: Final = ("expression", "request_attributes", "response_attributes")
"""Fields with expressions in CEL, in which `metadata` is all of it."""

_OPAQUE: Final = (
    "config_discovery", "configDiscovery",
    "ident_expr", "identExpr",  # a parsed expression in CEL, which may name anything
)  # fmt: skip
"""Fields behind which anything may be."""

_FORMATS: Final = ("text_format_source", "textFormatSource")
"""Format strings, which may be in another file."""

_PROCESSOR: Final = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"

_RECORDS: Final = "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"

_HTTP: Final = "envoy.extensions.filters.http"

_KNOWN: Final = frozenset((
    "",
    "envoy.config.core.v3.Address",
    "envoy.config.rbac.v3.Action",
    "envoy.config.route.v3.FilterConfig",
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
    "envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute",
    "envoy.extensions.filters.common.matcher.action.v3.SkipFilter",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState",
    "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
    "envoy.extensions.matching.input_matchers.metadata.v3.Metadata",
    "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
    "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput",
    "envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
    "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput",
    "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput",
    f"{_HTTP}.api_key_auth.v3.ApiKeyAuth",
    f"{_HTTP}.api_key_auth.v3.ApiKeyAuthPerRoute",
    f"{_HTTP}.basic_auth.v3.BasicAuth",
    f"{_HTTP}.basic_auth.v3.BasicAuthPerRoute",
    f"{_HTTP}.buffer.v3.Buffer",
    f"{_HTTP}.buffer.v3.BufferPerRoute",
    f"{_HTTP}.composite.v3.Composite",
    f"{_HTTP}.composite.v3.ExecuteFilterAction",
    f"{_HTTP}.cors.v3.Cors",
    f"{_HTTP}.cors.v3.CorsPolicy",
    f"{_HTTP}.custom_response.v3.CustomResponse",
    f"{_HTTP}.ext_authz.v3.ExtAuthz",
    f"{_HTTP}.ext_authz.v3.ExtAuthzPerRoute",
    f"{_HTTP}.ext_proc.v3.ExtProcPerRoute",
    _PROCESSOR,
    _RECORDS,
    f"{_HTTP}.fault.v3.HTTPFault",
    f"{_HTTP}.header_mutation.v3.HeaderMutation",
    f"{_HTTP}.header_mutation.v3.HeaderMutationPerRoute",
    f"{_HTTP}.header_to_metadata.v3.Config",
    f"{_HTTP}.jwt_authn.v3.JwtAuthentication",
    f"{_HTTP}.jwt_authn.v3.PerRouteConfig",
    f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
    f"{_HTTP}.oauth2.v3.OAuth2",
    f"{_HTTP}.ratelimit.v3.RateLimit",
    f"{_HTTP}.ratelimit.v3.RateLimitPerRoute",
    f"{_HTTP}.rbac.v3.RBAC",
    f"{_HTTP}.rbac.v3.RBACPerRoute",
    f"{_HTTP}.router.v3.Router",
    f"{_HTTP}.set_metadata.v3.Config",
    f"{_HTTP}.stateful_session.v3.StatefulSession",
    f"{_HTTP}.stateful_session.v3.StatefulSessionPerRoute",
))  # fmt: skip
"""Types of messages that read dynamic metadata only where their configuration names namespace and key."""
