"""Which filters let a call be decided before they have judged it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.render import judging
from mcp_extproc.envoy.render.judging import Judging

TYPE = "type.googleapis.com/envoy.extensions.filters.http"
RBAC = {"name": "rbac", "typed_config": {"@type": f"{TYPE}.rbac.v3.RBAC"}}
SERVERS = {"a": {"url": "http://127.0.0.1:1/mcp"}}


def a(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": kind, "typed_config": {"@type": f"{TYPE}.{kind}", **fields}}


def of(*filters: Any, **sections: Any) -> Judging:
    envoy = {"http_filters": list(filters), **sections.pop("envoy", {})}
    return judging.of(GatewayConfig.model_validate({"servers": SERVERS, "envoy": envoy, **sections}))


@pytest.mark.parametrize(
    "item",
    [
        RBAC, a("ext_authz.v3.ExtAuthz"), a("ratelimit.v3.RateLimit"), a("local_ratelimit.v3.LocalRateLimit"),
        a("jwt_authn.v3.JwtAuthentication"), a("cors.v3.Cors"), a("header_mutation.v3.HeaderMutation"),
        {"name": "x", "typedConfig": RBAC["typed_config"]},
    ],
)  # fmt: skip
def test_these_read_no_body(item: Any) -> None:
    assert of(item) is Judging.EARLY


@pytest.mark.parametrize(
    "item",
    [
        a("lua.v3.Lua"), a("wasm.v3.Wasm"), a("ext_proc.v3.ExternalProcessor"), a("buffer.v3.Buffer"),
        a("header_to_metadata.v3.Config"), a("set_metadata.v3.Config"),
        a("ext_authz.v3.ExtAuthz", with_request_body={"max_request_bytes": 1}),
        a("ext_authz.v3.ExtAuthz", withRequestBody={"maxRequestBytes": 1}),
        a("ext_authz.v3.ExtAuthz", metadata_context_namespaces=["mcp_onward"]),
        a("header_mutation.v3.HeaderMutation", mutations={"query_parameter_mutations": [{"remove": "a"}]}),
        a("header_mutation.v3.HeaderMutation", mutations={"request_mutations": [
            {"append": {"header": {"key": "x", "value": "%DYNAMIC_METADATA(mcp_onward:authorization)%"}}}]}),
        {"name": "x", "typed_config": {"@type": "type.googleapis.com/rbac.v3.RBAC"}},
        {"name": "envoy.filters.http.rbac", "typed_config": {"@type": "type.googleapis.com/xds.type.v3.TypedStruct"}},
        {"name": "x", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "extension_config": RBAC}},
    ],
)  # fmt: skip
def test_these_may_read_it_or_what_is_secret(item: Any) -> None:
    assert of(item) is Judging.FIRST
    assert of(RBAC, item) is Judging.FIRST


def test_what_routes_and_logs_say_counts_too() -> None:
    authz = a("ext_authz.v3.ExtAuthz")
    reads = {
        "@type": f"{TYPE}.ext_authz.v3.ExtAuthzPerRoute",
        "check_settings": {"with_request_body": {"max_request_bytes": 1}},
    }
    on_route = {"typed_per_filter_config": {"ext_authz.v3.ExtAuthz": reads}}
    assert of(authz, envoy=on_route) is Judging.FIRST
    assert of(authz, servers={"a": {**SERVERS["a"], **on_route}}) is Judging.FIRST


@pytest.mark.parametrize(("item", "is_early"), [
    (a("oauth2.v3.OAuth2"), True),
    (a("ext_authz.v3.ExtAuthz", with_request_body={"max_request_bytes": 1}), True),
    (a("lua.v3.Lua"), False),
    (a("header_mutation.v3.HeaderMutation", mutations={"response_mutations": [
        {"append": {"header": {"key": "x", "value": "%DYNAMIC_METADATA(mcp_onward)%"}}}]}), False),
])  # fmt: skip
def test_filters_in_front_see_metadata_with_the_response(item: Any, is_early: bool) -> None:
    assert (of(RBAC, envoy={"http_filters_before": [item]}) is Judging.EARLY) is is_early


def test_a_filter_from_elsewhere_is_not_known() -> None:
    discovered = {"name": "envoy.filters.http.rbac", "config_discovery": {"type_urls": [f"{TYPE}.rbac.v3.RBAC"]}}
    assert not judging.are_blind([discovered], ())


def test_others_need_no_visit_before_policies() -> None:
    assert of() is Judging.NEVER
    assert of(RBAC, envoy={"policies": "calls"}) is Judging.NEVER
    assert of(rate_limits=[{"requests": 1, "per": "minute"}]) is Judging.EARLY


@pytest.mark.parametrize(
    ("item", "may"),
    [
        (RBAC, False), (a("local_ratelimit.v3.LocalRateLimit"), False), (a("jwt_authn.v3.JwtAuthentication"), True),
        (a("ext_authz.v3.ExtAuthz"), True), (a("header_mutation.v3.HeaderMutation"), True), (a("lua.v3.Lua"), True),
        ({"name": "acme", "typed_config": {"@type": "type.googleapis.com/acme.Filter"}}, True), ({"name": "acme"}, True),
    ],
)  # fmt: skip
def test_which_may_add_a_query(item: Any, may: bool) -> None:
    assert judging.may_add_queries([RBAC, item]) is may
