"""The operator's policies: Envoy filters around the gateway's, rate limits, and the errors that clients get."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError, unknown_server
from mcp_extproc.config.envoy_message import Raw, RawMessage
from mcp_extproc.config.values import HeaderName, Seconds, WholeNumber

NATIVE_NAMESPACE = "envoy.filters.http.mcp"
"""Metadata namespace of Envoy's own MCP filter since 1.38; before that, ``mcp_proxy``."""

OWN_FILTERS = frozenset({
    "envoy.filters.http.buffer", "envoy.filters.http.cors", "envoy.filters.http.custom_response",
    "envoy.filters.http.ext_proc", "envoy.filters.http.router",
})  # fmt: skip
"""Names of the filters that the gateway renders itself, besides those that begin with ``mcp_``."""

MAX_REQUESTS = 2**32 - 1

_OWN_PREFIX = ("mcp_", "mcp/")
_ROUTER_TYPE = "envoy.extensions.filters.http.router."
_TYPE = re.compile(r"[^/\s]*/[A-Za-z_][A-Za-z0-9_.]*")
_TYPE_HINT = "@type names its message, such as type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_METHOD = re.compile(r"[A-Za-z0-9_$./-]{1,128}")


# -- Envoy's own filters ------------------------------------------------------------------------------------------------


def _typed(config: object) -> None:
    if not isinstance(config, Mapping) or not isinstance(config.get("@type"), str):
        raise ValueError(f"it has no typed_config with @type: {_TYPE_HINT}")
    if not _TYPE.fullmatch(config["@type"]):
        raise ValueError(f"@type is not a type name: {_TYPE_HINT}")


def _filter(value: Raw) -> Raw:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a filter has a name, such as envoy.filters.http.rbac")
    if name in OWN_FILTERS or name.startswith(_OWN_PREFIX):
        raise ValueError(
            "the gateway has a filter of this name: choose another name; Envoy identifies filters by @type"
        )
    config = value.get("typed_config", value.get("typedConfig"))
    _typed(config)
    assert config is not None
    if _ROUTER_TYPE in config["@type"]:
        raise ValueError("the router is the gateway's own, and the last filter")
    if unknown := set(value) - {"name", "typed_config", "typedConfig"}:
        raise ValueError(f"{min(unknown)!r} is not supported in a filter here: expected name and typed_config")
    return value


def _cluster(value: Raw) -> Raw:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a cluster has a name")
    if name.startswith(_OWN_PREFIX):
        raise ValueError("cluster names that begin with mcp_ or mcp/ are reserved for the gateway: choose another name")
    return value


def _per_filter(value: dict[str, Raw]) -> dict[str, Raw]:
    for name, config in value.items():
        if name in OWN_FILTERS or name.startswith(_OWN_PREFIX):
            raise ValueError("the gateway's own filters can't be configured here")
        _typed(config)
    return value


RawFilter = Annotated[RawMessage, AfterValidator(_filter)]
RawCluster = Annotated[RawMessage, AfterValidator(_cluster)]
PerFilterConfig = Annotated[Mapping[str, RawMessage], AfterValidator(_per_filter)]
"""A route's ``typed_per_filter_config``: a message with ``@type`` for each filter name."""


class Principal(Model):
    """The caller's identity, proven by a filter in `envoy.http_filters_before`. Either `header` or `metadata`. The latter is
    the same as `authentication.existing.subject` with `anonymous: true`; a `header` is for rate limits only."""

    header: HeaderName | None = None
    """Request header that this filter always overwrites, as `claim_to_headers` of jwt_authn does."""

    metadata: tuple[str, ...] = ()
    """Dynamic metadata that this filter writes: the namespace, then the path to the value, such as
    `[envoy.filters.http.jwt_authn, payload, sub]`."""

    @model_validator(mode="after")
    def _one(self) -> Principal:
        if (self.header is None) == (not self.metadata):
            raise ValueError("give either header or metadata")
        if self.metadata and len(self.metadata) < 2:
            raise ValueError("metadata is a namespace and at least one key, such as [my_filter, user]")
        return self


class EnvoyConfig(Model):
    """Envoy filters around the gateway's, in the notation of Envoy's documentation. They are copied into Envoy's configuration
    verbatim, secrets included. Whole numbers beyond 2^53 have to be in quotes, as in protobuf's JSON."""

    http_filters_before: tuple[RawFilter, ...] = Field(default=(), repr=False)
    """Filters in front of the gateway's, for authentication, such as jwt_authn. A request that they reject never reaches the
    gateway."""

    http_filters: tuple[RawFilter, ...] = Field(default=(), repr=False)
    """Filters between the gateway's and the router, for policies, such as rbac, ext_authz and rate limits. They can match the
    dynamic metadata `mcp_proxy`."""

    clusters: tuple[RawCluster, ...] = Field(default=(), repr=False)
    """Clusters used by these filters."""

    typed_per_filter_config: PerFilterConfig = Field(default_factory=dict, repr=False, validate_default=True)
    """Per-route configuration of these filters for the MCP endpoint, by filter name, such as an RBACPerRoute. That of a server
    takes precedence."""

    policies: Literal["all", "calls"] = "all"
    """Which requests `http_filters` apply to. `all`: every request, as the client sent it, before it is processed; each
    request then makes two round trips to a worker, a call that is judged without its body
    [only one](policies.md#calls-in-one-pass). `calls`: only requests to one server, as that server will receive them;
    `initialize`, lists, notifications and streams are answered before the filters."""

    principal: Principal | None = None
    """An earlier way to say what `authentication.existing` says."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> EnvoyConfig:
        for key, items in (
            ("http_filters", (*self.http_filters_before, *self.http_filters)),
            ("clusters", self.clusters),
        ):
            names = [item["name"] for item in items]
            if len(set(names)) != len(names):
                raise PlacedError((key,), "two have the same name")
        return self


class Metadata(Model):
    """The dynamic metadata that the gateway writes."""

    namespaces: tuple[str, ...] = ()
    """Namespaces that receive the same metadata as `mcp_proxy`. `envoy.filters.http.mcp`, the namespace of Envoy's own MCP
    filter, is added automatically where a filter in `envoy` refers to it."""

    detail: Literal["needed", "full"] = "needed"
    """How much is written for each request. `needed`: with `run` and `serve --envoy-config`, the keys that the rendered
    configuration reads, and all where a filter or a log may read any, such as ext_authz with
    `metadata_context_namespaces`, Lua or Wasm. `full`: always all, as with `envoy bootstrap`, `attach` and `fragments`."""

    @field_validator("namespaces")
    @classmethod
    def _usable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or "mcp_proxy" in value:
            raise ValueError("a namespace is listed twice (mcp_proxy is always included)")
        if not all(_NAMESPACE.fullmatch(namespace) for namespace in value):
            raise ValueError("expected 1 to 128 characters out of A-Z a-z 0-9 _ . -")
        return value


class Errors(Model):
    """Errors for denied requests."""

    status: Literal["jsonrpc", "native"] = "jsonrpc"
    """HTTP status of a request that a policy denied. `jsonrpc`: 200 with a JSON-RPC error, which every SDK reports. `native`:
    403 or 429, on which several SDKs end the whole session. 401 is always 401."""


# -- Rate limits ------------------------------------------------------------------------------------------------------


Per = Literal["second", "minute", "hour", "day"]
SECONDS: Mapping[Per, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

By = Literal["server", "tool", "method", "session", "principal"]


class RateLimitMatch(Model):
    """The requests that a limit counts. All given keys have to match."""

    server: str | None = None
    """Name of a server."""

    tool: str | None = Field(default=None, min_length=1)
    """Calls of a tool, by the tool's name at the server."""

    method: str | None = None
    """A JSON-RPC method, such as `tools/call`."""

    @field_validator("method")
    @classmethod
    def _method(cls, value: str | None) -> str | None:
        if value is not None and not _METHOD.fullmatch(value):
            raise ValueError("expected a method such as tools/call")
        return value

    @model_validator(mode="after")
    def _tools_are_called(self) -> RateLimitMatch:
        if self.tool is not None and self.method not in (None, "tools/call"):
            raise ValueError("tool requires the method tools/call")
        return self


class RateLimit(Model):
    """One rate limit. A request is denied if it exceeds any limit."""

    requests: WholeNumber | None = Field(default=None, ge=1, le=MAX_REQUESTS)
    """Number of requests allowed. Optional only for a global limit whose number is configured in the service."""

    per: Per | None = None
    """Time unit: `second`, `minute`, `hour` or `day`. Given together with `requests`."""

    by: tuple[By, ...] = ()
    """What gets a counter of its own: each `tool` (of each server), `server`, `method`, `session`, `principal`, or each
    combination of several. Requests without one of them, such as `initialize` without a session, are not counted. Empty: one
    counter for all."""

    match: RateLimitMatch = RateLimitMatch()
    """Which requests are counted."""

    scope: Literal["local", "global"] = "local"
    """Where requests are counted. `local`: in each Envoy. `global`: in the `rate_limit_service`, for all Envoys."""

    most_keys: WholeNumber = Field(default=10_000, ge=1, le=1_000_000)
    """Maximum number of counters of a local limit. Beyond it, the least recently used are evicted."""

    @model_validator(mode="after")
    def _complete(self) -> RateLimit:
        if (self.requests is None) != (self.per is None):
            raise ValueError("requests and per go together, such as requests: 10 and per: minute")
        if self.requests is None and self.scope == "local":
            raise ValueError("give requests and per, such as requests: 10 and per: minute")
        if len(set(self.by)) != len(self.by):
            raise ValueError("by: an entry is listed twice")
        if not self.by and self.match == RateLimitMatch() and self.scope == "global" and self.requests is None:
            raise ValueError("a global limit needs by or match, to identify it to the service")
        return self

    @property
    def only_calls(self) -> bool:
        """Whether it counts only requests that are forwarded to one server."""
        return (
            "tool" in self.by or self.match.tool is not None or self.match.method in ("tools/call", "prompts/get")
        ) and "principal" not in self.by


class RateLimitService(Model):
    """A service that implements Envoy's rate limit protocol (envoy.service.ratelimit.v3), such as envoyproxy/ratelimit."""

    address: str
    """Address of the service, `host:port` (gRPC without TLS). For TLS or several hosts use `cluster`."""

    cluster: str | None = Field(default=None, min_length=1)
    """A cluster in `envoy.clusters` to use instead. `address` is then only the authority (`Host`)."""

    domain: str = Field(default="mcp", min_length=1)
    """Domain in the service's configuration."""

    timeout: Seconds = 0.25
    """Deadline of the service's response."""

    failure_mode_deny: bool = True
    """Whether requests are denied (HTTP 500) when the service does not respond. Otherwise they pass uncounted."""

    @field_validator("address")
    @classmethod
    def _authority(cls, value: str) -> str:
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?):(\d{1,5})", value)
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError("expected host:port, such as ratelimit:8081")
        return value


# -- Validation across sections -----------------------------------------------------------------------------------------


def is_local_rate_limit(value: Raw) -> bool:
    """Whether a filter is Envoy's local_ratelimit."""
    config = value.get("typed_config", value.get("typedConfig"))
    return isinstance(config, Mapping) and str(config.get("@type")).endswith(".LocalRateLimit")


def mentions(value: object, text: str) -> bool:
    """Whether nested data contains a text as a value."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, Mapping):
        return any(mentions(item, text) for item in value.values())
    return isinstance(value, Sequence) and any(mentions(item, text) for item in value)


def has_filter(filters: Sequence[Raw], message: str) -> bool:
    """Whether one of Envoy's HTTP filters is among these, or inside of one. ``message``: such as
    ``jwt_authn.v3.JwtAuthentication``."""

    def is_it(value: object) -> bool:
        if isinstance(value, Mapping):
            return any(map(is_it, value.values()))
        if isinstance(value, str):
            return value.endswith(f"/envoy.extensions.filters.http.{message}")
        return isinstance(value, Sequence) and any(map(is_it, value))

    return is_it(filters)


def problems(
    envoy: EnvoyConfig,
    limits: Sequence[RateLimit],
    service: RateLimitService | None,
    per_server: Mapping[str, Mapping[str, Raw]],
    per_virtual_server: Mapping[str, Mapping[str, Raw]],
    *,
    authenticated: bool = False,
) -> Iterator[PlacedError]:
    """Contradictions between sections."""
    if any(limit.scope == "global" for limit in limits) and service is None:
        yield PlacedError(("rate_limits",), "a global limit needs rate_limit_service")
    if any("principal" in limit.by for limit in limits) and not authenticated:
        if envoy.principal is None:
            yield PlacedError(("rate_limits",), "by principal needs authentication: nobody knows who calls")
        elif envoy.policies == "calls" and envoy.principal.header is not None:
            yield PlacedError(
                ("envoy", "principal"),
                "with policies: calls the client's headers are already removed when limits are counted: use metadata",
            )
    clusters = {cluster["name"] for cluster in envoy.clusters}
    if service is not None and service.cluster is not None and service.cluster not in clusters:
        yield PlacedError(("rate_limit_service", "cluster"), "no cluster in envoy.clusters has this name")
    for index, limit in enumerate(limits):
        if limit.match.server is not None and limit.match.server not in per_server:
            yield PlacedError(("rate_limits", index, "match", "server"), unknown_server(limit.match.server, per_server))
    known = {item["name"] for item in (*envoy.http_filters_before, *envoy.http_filters)}
    sections: list[tuple[tuple[str, ...], Mapping[str, Raw]]] = [(("envoy",), envoy.typed_per_filter_config)]
    sections += [(("servers", server), configs) for server, configs in per_server.items()]
    for path, configs in sections:
        if any(name not in known for name in configs):
            yield PlacedError(
                (*path, "typed_per_filter_config"), "a filter is configured that is not in envoy.http_filters"
            )
    before = {item["name"] for item in envoy.http_filters_before}
    for name, configs in per_virtual_server.items():
        if not configs.keys() <= before:
            yield PlacedError(
                ("virtual_servers", name, "typed_per_filter_config"),
                "a filter is configured that is not in envoy.http_filters_before",
            )
