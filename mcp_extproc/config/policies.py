"""Policies of the operator's: Envoy's own filters around ours, rate limits, and what a refused client gets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mcp_extproc.config.base import Model
from mcp_extproc.config.values import HeaderName, Seconds, WholeNumber

NATIVE_NAMESPACE = "envoy.filters.http.mcp"
"""Where Envoy's own MCP filter writes its metadata since 1.38; ``mcp_proxy`` before that."""

OWN_FILTERS = frozenset({
    "envoy.filters.http.buffer", "envoy.filters.http.custom_response", "envoy.filters.http.ext_proc",
    "envoy.filters.http.router",
})  # fmt: skip
"""Names of the filters that the gateway renders itself. Those that begin with ``mcp_`` are its own, too."""

MAX_REQUESTS = 2**32 - 1

_OWN_PREFIX = ("mcp_", "mcp/")
_ROUTER_TYPE = "envoy.extensions.filters.http.router."
_TYPE = re.compile(r"[^/\s]*/[A-Za-z_][A-Za-z0-9_.]*")
_TYPE_HINT = "@type names its message, such as type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_METHOD = re.compile(r"[A-Za-z0-9_$./-]{1,128}")

Raw = Mapping[str, Any]
"""A message of Envoy's, as its documentation writes it."""


# -- Envoy's own filters ------------------------------------------------------------------------------------------------


def _typed(config: object) -> None:
    if not isinstance(config, Mapping) or not isinstance(config.get("@type"), str):
        raise ValueError(f"it has no typed_config with @type: {_TYPE_HINT}")
    if not _TYPE.fullmatch(config["@type"]):
        raise ValueError(f"@type is no type's name: {_TYPE_HINT}")


def _filter(value: Raw) -> Raw:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a filter has a name, such as envoy.filters.http.rbac")
    if name in OWN_FILTERS or name.startswith(_OWN_PREFIX):
        raise ValueError("a filter of the gateway's own has this name: choose another one; Envoy goes by @type")
    config = value.get("typed_config", value.get("typedConfig"))
    _typed(config)
    assert config is not None
    if _ROUTER_TYPE in config["@type"]:
        raise ValueError("the router is the gateway's own, and the last filter")
    if unknown := set(value) - {"name", "typed_config", "typedConfig"}:
        raise ValueError(f"{min(unknown)!r} is no key of a filter here: expected name and typed_config")
    return value


def _cluster(value: Raw) -> Raw:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a cluster has a name")
    if name.startswith(_OWN_PREFIX):
        raise ValueError("names of clusters that begin with mcp_ or mcp/ are the gateway's own: choose another one")
    return value


def _per_filter(value: dict[str, Raw]) -> dict[str, Raw]:
    for name, config in value.items():
        if name in OWN_FILTERS or name.startswith(_OWN_PREFIX):
            raise ValueError("it configures a filter of the gateway's own")
        _typed(config)
    return value


RawFilter = Annotated[Mapping[str, Any], AfterValidator(_filter)]
RawCluster = Annotated[Mapping[str, Any], AfterValidator(_cluster)]
PerFilterConfig = Annotated[Mapping[str, Mapping[str, Any]], AfterValidator(_per_filter)]
"""Of a route: by the filter's name, a message with ``@type``."""


class Principal(Model):
    """Who calls, for rate limits. The gateway itself does not know: a filter in `envoy.http_filters_before` has to find out.
    Either `header` or `metadata`."""

    header: HeaderName | None = None
    """Request header that such a filter writes, whatever the client sent, as `claim_to_headers` of jwt_authn does."""

    metadata: tuple[str, ...] = ()
    """Dynamic metadata that such a filter writes: the namespace, then the path to the value, such as
    `[envoy.filters.http.jwt_authn, payload, sub]`."""

    @model_validator(mode="after")
    def _one(self) -> Principal:
        if (self.header is None) == (not self.metadata):
            raise ValueError("give either header or metadata")
        if self.metadata and len(self.metadata) < 2:
            raise ValueError("metadata is a namespace and at least one key, such as [my_filter, user]")
        return self


class EnvoyConfig(Model):
    """Envoy's own filters around the gateway's, written as in Envoy's documentation. They stand in Envoy's configuration as
    they are: secrets in them, too."""

    http_filters_before: tuple[RawFilter, ...] = Field(default=(), repr=False)
    """Filters in front of the gateway's: authentication, such as jwt_authn. A request that they refuse never reaches the
    gateway."""

    http_filters: tuple[RawFilter, ...] = Field(default=(), repr=False)
    """Filters behind the gateway's, in front of the router: policies, such as rbac, ext_authz and rate limits. They see the
    metadata `mcp_proxy`."""

    clusters: tuple[RawCluster, ...] = Field(default=(), repr=False)
    """Clusters that these filters need."""

    typed_per_filter_config: PerFilterConfig = Field(default_factory=dict, repr=False, validate_default=True)
    """Configuration of these filters for the MCP endpoint, by the filter's name, such as an RBACPerRoute. A server's own
    comes before it."""

    policies: Literal["all", "calls"] = "all"
    """What `http_filters` judge. `all`: every request, as the client sent it, before anything is done; each request then
    visits a worker twice. `calls`: only what goes to one server, as the server will get it; `initialize`, lists,
    notifications and streams are answered in front of the filters."""

    principal: Principal | None = None
    """What `principal` means in `rate_limits`."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> EnvoyConfig:
        for key, items in (
            ("http_filters", (*self.http_filters_before, *self.http_filters)),
            ("clusters", self.clusters),
        ):
            names = [item["name"] for item in items]
            if len(set(names)) != len(names):
                raise ValueError(f"{key}: two have the same name")
        return self


class Metadata(Model):
    """The dynamic metadata that the gateway writes."""

    namespaces: tuple[str, ...] = ()
    """Namespaces that get what `mcp_proxy` gets, too. `envoy.filters.http.mcp`, where Envoy's own MCP filter writes, is added
    by itself where a filter in `envoy` names it."""

    @field_validator("namespaces")
    @classmethod
    def _usable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or "mcp_proxy" in value:
            raise ValueError("a namespace is listed twice (mcp_proxy is always written)")
        if not all(_NAMESPACE.fullmatch(namespace) for namespace in value):
            raise ValueError("expected 1 to 128 characters out of A-Z a-z 0-9 _ . -")
        return value


class Errors(Model):
    """What a refused client gets."""

    status: Literal["jsonrpc", "native"] = "jsonrpc"
    """HTTP status of a request that a policy refused. `jsonrpc`: 200, with a JSON-RPC error that every SDK shows. `native`:
    403 or 429, which end the whole session in several SDKs. 401 is always 401."""


# -- Rate limits ------------------------------------------------------------------------------------------------------


Per = Literal["second", "minute", "hour", "day"]
SECONDS: Mapping[Per, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

By = Literal["server", "tool", "method", "session", "principal"]


class RateLimitMatch(Model):
    """The requests that a limit counts. All keys that are given have to fit."""

    server: str | None = None
    """A server."""

    tool: str | None = Field(default=None, min_length=1)
    """A tool, by its name at the server: calls of it."""

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
            raise ValueError("tool goes with the method tools/call")
        return self


class RateLimit(Model):
    """One limit. A request is refused when any limit refuses it."""

    requests: WholeNumber | None = Field(default=None, ge=1, le=MAX_REQUESTS)
    """How many. Required, but for a global limit whose service has the number."""

    per: Per | None = None
    """In which time: `second`, `minute`, `hour` or `day`. Goes with `requests`."""

    by: tuple[By, ...] = ()
    """What is counted by itself: each `tool` (of each server), `server`, `method`, `session`, `principal`, or each combination
    of several. Requests that lack one of them, as `initialize` lacks a session, are not counted. Empty: all together."""

    match: RateLimitMatch = RateLimitMatch()
    """Which requests are counted."""

    scope: Literal["local", "global"] = "local"
    """Who counts. `local`: each Envoy by itself. `global`: the `rate_limit_service`, for all Envoys."""

    most_keys: WholeNumber = Field(default=10_000, ge=1, le=1_000_000)
    """Most tools, sessions and so on that a local limit counts at once. Beyond it, the ones used longest ago are forgotten."""

    @model_validator(mode="after")
    def _complete(self) -> RateLimit:
        if (self.requests is None) != (self.per is None):
            raise ValueError("requests and per go together, such as requests: 10 and per: minute")
        if self.requests is None and self.scope == "local":
            raise ValueError("give requests and per, such as requests: 10 and per: minute")
        if len(set(self.by)) != len(self.by):
            raise ValueError("by: one is listed twice")
        if not self.by and self.match == RateLimitMatch() and self.scope == "global" and self.requests is None:
            raise ValueError("a global limit names what it counts, in by or match")
        return self

    @property
    def only_calls(self) -> bool:
        """Whether it counts only what is forwarded to one server."""
        return (
            "tool" in self.by or self.match.tool is not None or self.match.method in ("tools/call", "prompts/get")
        ) and "principal" not in self.by


class RateLimitService(Model):
    """A service of Envoy's rate limit protocol (envoy.service.ratelimit.v3), such as envoyproxy/ratelimit."""

    address: str
    """Where it listens, `host:port` (gRPC without TLS). For TLS or several hosts use `cluster`."""

    cluster: str | None = Field(default=None, min_length=1)
    """A cluster in `envoy.clusters` to ask instead. `address` is then only its `Host`."""

    domain: str = Field(default="mcp", min_length=1)
    """The domain that its configuration has."""

    timeout: Seconds = 0.25
    """Deadline of its answer."""

    failure_mode_deny: bool = True
    """Whether requests are refused (HTTP 500) when it does not answer. Else they pass uncounted."""

    @field_validator("address")
    @classmethod
    def _authority(cls, value: str) -> str:
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?):(\d{1,5})", value)
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError("expected host:port, such as ratelimit:8081")
        return value


# -- Questions ----------------------------------------------------------------------------------------------------------


def is_local_rate_limit(value: Raw) -> bool:
    """Whether a filter is Envoy's local_ratelimit."""
    config = value.get("typed_config", value.get("typedConfig"))
    return isinstance(config, Mapping) and str(config.get("@type")).endswith(".LocalRateLimit")


def mentions(value: object, text: str) -> bool:
    """Whether a text is one of the values anywhere in this data."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, Mapping):
        return any(mentions(item, text) for item in value.values())
    return isinstance(value, Sequence) and any(mentions(item, text) for item in value)


def problems(
    envoy: EnvoyConfig,
    limits: Sequence[RateLimit],
    service: RateLimitService | None,
    per_server: Mapping[str, Mapping[str, Raw]],
) -> Iterator[str]:
    """What is wrong between the sections."""
    if any(limit.scope == "global" for limit in limits) and service is None:
        yield "rate_limits: a global limit needs rate_limit_service"
    if any("principal" in limit.by for limit in limits):
        if envoy.principal is None:
            yield "rate_limits: by principal needs envoy.principal, which says where it is found"
        elif envoy.policies == "calls" and envoy.principal.header is not None:
            yield "envoy.principal: with policies: calls a client's headers are gone when limits are counted: use metadata"
    clusters = {cluster["name"] for cluster in envoy.clusters}
    if service is not None and service.cluster is not None and service.cluster not in clusters:
        yield "rate_limit_service.cluster: no cluster in envoy.clusters has this name"
    for index, limit in enumerate(limits):
        if limit.match.server is not None and limit.match.server not in per_server:
            yield f"rate_limits[{index}].match.server: no server has this name"
    known = {item["name"] for item in (*envoy.http_filters_before, *envoy.http_filters)}
    for where, configs in (
        ("envoy", envoy.typed_per_filter_config),
        *((f"servers.{n}", c) for n, c in per_server.items()),
    ):
        if any(name not in known for name in configs):
            yield f"{where}.typed_per_filter_config: a filter is configured that is not in envoy.http_filters"
