"""Policies in the configuration: what is accepted, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import ConfigError
from tests.unit.config.support import native

RBAC: dict[str, Any] = {
    "name": "envoy.filters.http.rbac",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
}
PER_ROUTE = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"}
TWO_A_MINUTE = {"requests": 2, "per": "minute"}


def config(**sections: Any) -> GatewayConfig:
    servers = sections.pop("servers", {"a": {"url": "http://a/mcp"}})
    return GatewayConfig.model_validate({"servers": servers, **sections})


def problem(**sections: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**sections)
    return str(caught.value.errors(include_url=False, include_input=False)[0]["msg"])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"typed_config": PER_ROUTE}, "a filter has a name"),
        ({"name": "x"}, "no typed_config with @type"),
        ({"name": "x", "typed_config": {"rules": {}}}, "no typed_config with @type"),
        ({"name": "x", "typed_config": {"@type": "envoy.RBAC"}}, "@type is not a type name"),
        ({**RBAC, "name": "envoy.filters.http.ext_proc"}, "the gateway has a filter of this name"),
        ({**RBAC, "name": "mcp_judge"}, "the gateway has a filter of this name"),
        ({**RBAC, "disabld": True}, "'disabld' is not supported in a filter"),
        (
            {
                "name": "r",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
            "the router is the gateway's own",
        ),
    ],
)
@pytest.mark.parametrize("key", ["http_filters", "http_filters_before"])
def test_filters_that_can_not_be(key: str, item: Any, words: str) -> None:
    assert words in problem(envoy={key: [item]})


def test_names_are_distinct() -> None:
    assert "http_filters: two have the same name" in problem(
        envoy={"http_filters": [RBAC], "http_filters_before": [RBAC]}
    )
    assert "clusters: two have the same name" in problem(envoy={"clusters": [{"name": "x"}, {"name": "x"}]})
    assert "a cluster has a name" in problem(envoy={"clusters": [{"type": "STATIC"}]})
    assert "are reserved for the gateway" in problem(envoy={"clusters": [{"name": "mcp/a"}]})


def test_configuration_of_filters_that_are_not_there() -> None:
    assert "envoy.typed_per_filter_config: a filter" in problem(envoy={"typed_per_filter_config": {"x": PER_ROUTE}})
    servers = {"a": {"url": "http://a/mcp", "typed_per_filter_config": {"x": PER_ROUTE}}}
    assert "servers.a.typed_per_filter_config: a filter" in problem(servers=servers, envoy={"http_filters": [RBAC]})
    assert "no typed_config with @type" in problem(
        envoy={"http_filters": [RBAC], "typed_per_filter_config": {RBAC["name"]: {}}}
    )


def test_raw_messages_are_kept_and_not_shown() -> None:
    secret = {**RBAC, "typed_config": {**RBAC["typed_config"], "key": "hush", "deep": {"a_b": [1, None, {"c": 2.5}]}}}
    read = config(envoy={"http_filters": [secret], "clusters": [{"name": "x", "password": "hush"}]})
    assert read.envoy.http_filters == (secret,)
    assert "hush" not in repr(read)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"by": ["tool"]}, "give requests and per"),
        ({"requests": 2}, "requests and per go together"),
        ({"per": "hour", "scope": "global"}, "requests and per go together"),
        ({**TWO_A_MINUTE, "by": ["tool", "tool"]}, "an entry is listed twice"),
        ({"scope": "global"}, "a global limit needs by or match"),
        ({**TWO_A_MINUTE, "match": {"tool": "x", "method": "ping"}}, "tool requires the method tools/call"),
        ({**TWO_A_MINUTE, "match": {"method": "a b"}}, "expected a method"),
        ({**TWO_A_MINUTE, "match": {"server": "b"}}, "rate_limits[0].match.server: no server has this name"),
        ({**TWO_A_MINUTE, "by": ["principal"]}, "needs authentication"),
        ({**TWO_A_MINUTE, "by": ["tool"], "scope": "global"}, "needs rate_limit_service"),
    ],
)
def test_limits_that_can_not_be(limit: Any, words: str) -> None:
    assert words in problem(rate_limits=[limit])


def test_the_service_and_the_principal() -> None:
    limit = {**TWO_A_MINUTE, "by": ["principal"], "scope": "global"}
    service: dict[str, Any] = {"address": "ratelimit:8081", "cluster": "limits"}
    principal = {"principal": {"metadata": ["ns", "sub"]}}
    assert "no cluster in envoy.clusters" in problem(rate_limits=[limit], rate_limit_service=service, envoy=principal)
    assert config(
        rate_limits=[limit], rate_limit_service=service, envoy={**principal, "clusters": [{"name": "limits"}]}
    )
    assert "expected host:port" in problem(rate_limit_service={"address": "ratelimit"})
    assert "give either header or metadata" in problem(envoy={"principal": {}})
    assert "at least one key" in problem(envoy={"principal": {"metadata": ["ns"]}})
    assert "client's headers are already removed" in problem(
        rate_limits=[{**TWO_A_MINUTE, "by": ["principal"]}], envoy={"principal": {"header": "x"}, "policies": "calls"}
    )


@pytest.mark.parametrize(
    ("sections", "first"),
    [
        ({}, False),
        ({"envoy": {"http_filters": [RBAC]}}, True),
        ({"envoy": {"http_filters": [RBAC], "policies": "calls"}}, False),
        ({"envoy": {"http_filters_before": [RBAC]}}, False),
        ({"rate_limits": [{**TWO_A_MINUTE, "by": ["tool"]}]}, False),
        ({"rate_limits": [{**TWO_A_MINUTE, "by": ["session"], "match": {"tool": "x"}}]}, False),
        ({"rate_limits": [{**TWO_A_MINUTE, "by": ["session"]}]}, True),
        ({"rate_limits": [{**TWO_A_MINUTE}]}, True),
        ({"rate_limits": [{**TWO_A_MINUTE, "by": ["method"]}]}, True),
        (
            {
                "rate_limits": [{**TWO_A_MINUTE, "by": ["tool", "principal"]}],
                "envoy": {"principal": {"header": "x-user"}},
            },
            True,
        ),
    ],
)
def test_who_needs_two_visits(sections: Any, first: bool) -> None:
    """The second costs as much as the first, so nobody gets it who does not need it."""
    assert config(**sections).judges_first is first


def test_envoys_own_namespace_is_written_where_it_is_read() -> None:
    native_name = "envoy.filters.http.mcp"
    named = {**RBAC, "typed_config": {**RBAC["typed_config"], "rules": [{"filter": native_name}]}}
    assert config().more_namespaces == ()
    assert config(envoy={"http_filters": [RBAC]}).more_namespaces == ()
    assert config(envoy={"http_filters": [named]}).more_namespaces == (native_name,)
    assert config(metadata={"namespaces": ["x"]}, envoy={"http_filters": [named]}).more_namespaces == ("x", native_name)
    assert config(metadata={"namespaces": [native_name]}).more_namespaces == (native_name,)
    per_route = {RBAC["name"]: {**PER_ROUTE, "rbac": {"filter": native_name}}}
    servers = {"a": {"url": "http://a/mcp", "typed_per_filter_config": per_route}}
    assert config(servers=servers, envoy={"http_filters": [RBAC]}).more_namespaces == (native_name,)
    assert "listed twice" in problem(metadata={"namespaces": ["mcp_proxy"]})
    assert "expected 1 to 128" in problem(metadata={"namespaces": ["a b"]})


def test_keys_inside_of_lists_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"rate_limits\[0\]\.request: unknown key, did you mean requests\?"):
        native("servers: {a: {url: http://a/}}\nrate_limits: [{request: 1}]", {})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (99999999999999999999, "foo: a whole number beyond 2^53"),
        (-(2**53) - 1, "foo: a whole number beyond 2^53"),
        ([{"bar": 2**64 - 1}], "foo[0].bar: a whole number beyond 2^53"),
        (float("inf"), "foo: Envoy's configuration has no infinite numbers"),
        (float("nan"), "foo: Envoy's configuration has no infinite numbers"),
    ],
)
def test_numbers_that_can_not_reach_envoy(value: object, words: str) -> None:
    """In every place that takes Envoy's messages, with the path of the number."""
    config_of = {**PER_ROUTE, "foo": value}
    assert words in problem(envoy={"clusters": [{"name": "authz", "foo": value}]})
    assert f"typed_config.{words}" in problem(envoy={"http_filters": [{**RBAC, "typed_config": config_of}]})
    assert f"typed_config.{words}" in problem(envoy={"http_filters_before": [{**RBAC, "typed_config": config_of}]})
    per_filter = {RBAC["name"]: config_of}
    assert words in problem(envoy={"http_filters": [RBAC], "typed_per_filter_config": per_filter})
    servers = {"a": {"url": "http://a/mcp", "typed_per_filter_config": per_filter}}
    assert words in problem(envoy={"http_filters": [RBAC]}, servers=servers)
