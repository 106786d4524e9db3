"""Which facts are asked for: what is read is found, and what can't be told means all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import MARKER_NAMESPACE, METADATA_KEY, NAMESPACE, ROUTES_READ, ROUTES_REMOVE
from mcp_extproc.envoy.attach.fields import plain, words
from mcp_extproc.envoy.files import Rendered
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.metadata_read import ask_for_what_is_read, keys_read
from mcp_extproc.envoy.render.bootstrap import bootstrap
from mcp_extproc.envoy.watched_files import render
from tests.support.documented import METADATA_KEYS

HTTP = "type.googleapis.com/envoy.extensions.filters.http"
RBAC = f"{HTTP}.rbac.v3.RBAC"
LAYOUT = Layout.in_directory(Path("/run/mcp"))
SERVERS = {"alpha": {"url": "http://alpha.example/mcp"}}


def at(*path: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    return {"filter": namespace, "path": [{"key": key} for key in path], "value": {"present_match": True}}


def rbac(*permissions: Any, name: str = "rbac", **more: Any) -> dict[str, Any]:
    policy = {"permissions": list(permissions), "principals": [{"any": True}], **more}
    return {"name": name, "typed_config": {"@type": RBAC, "rules": {"action": "DENY", "policies": {"no": policy}}}}


def filter_of(type: str, **fields: Any) -> dict[str, Any]:
    return {"name": "theirs", "typed_config": {"@type": f"type.googleapis.com/{type}", **fields}}


def configured(**config: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"servers": SERVERS, "log": {"access": ""}, **config})


def asked(config: GatewayConfig) -> list[tuple[str, str]]:
    """What each filter that decides asks for, with what its routes say."""
    static = plain(bootstrap(config, LAYOUT))["static_resources"]
    ask_for_what_is_read(static, config)
    found = []
    for listener in static["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        said = {
            route["metadata"]["filter_metadata"][MARKER_NAMESPACE][ROUTES_READ]
            for host in manager["route_config"]["virtual_hosts"]
            for route in host["routes"]
            if ROUTES_READ in route.get("metadata", {}).get("filter_metadata", {}).get(MARKER_NAMESPACE, {})
        }
        for item in manager["http_filters"]:
            for entry in entries(item):
                if entry["key"] == METADATA_KEY:
                    [routes] = said
                    found.append((entry["value"].partition(";")[0], routes))
    return found


def entries(data: Any) -> Iterator[dict[str, str]]:
    """What a filter sends as gRPC metadata, also one inside of another."""
    match data:
        case {"initial_metadata": found}:
            yield from found
        case dict():
            for value in data.values():
                yield from entries(value)
        case list():
            for value in data:
                yield from entries(value)


def keys(config: GatewayConfig) -> set[str] | None:
    """All that is asked for, in either listener, of all filters; ``None`` if none says anything, and so all is written."""
    said = asked(config)
    if not said:
        return None
    assert len(said) == (2 if config.judges_first else 1) * (1 if config.counts_locally else 2)
    assert len(set(said)) == 1
    assert ROUTES_REMOVE in said[0][1].split(",")
    return {key for part in said[0] for key in part.split(",")} - {ROUTES_REMOVE}


MINIMUM = {"answered", "id_json", "method", "server"}


def test_without_a_log_and_policies_only_what_the_gateway_reads_itself() -> None:
    assert keys(configured()) == MINIMUM


def test_the_access_log_reads_what_it_has_a_field_for() -> None:
    read = keys(configured(log={"access": "/dev/stdout"}))
    assert read is not None
    assert {"tool", "prompt", "params", "session", "client", "error_reason", "flags", "batch", "ordinary"} < read
    assert not read & {"id", "resumes", "session_error", "repair"}


@pytest.mark.parametrize("key", sorted(METADATA_KEYS))
@pytest.mark.parametrize("place", ["filter", "route", "server", "other namespace"])
def test_every_documented_key_that_a_policy_reads_is_asked_for(key: str, place: str) -> None:
    path = key.split(".")
    denying = rbac({"metadata": at(*path)})
    per_route = {"rbac": {"@type": f"{RBAC}PerRoute", "rbac": denying["typed_config"]}}
    empty = {"name": "rbac", "typed_config": {"@type": RBAC}}
    match place:
        case "filter":
            config = configured(envoy={"http_filters": [denying]})
        case "route":
            config = configured(envoy={"http_filters": [empty], "typed_per_filter_config": per_route})
        case "server":
            server = {**SERVERS["alpha"], "typed_per_filter_config": per_route}
            config = configured(servers={"alpha": server}, envoy={"http_filters": [empty]})
        case _:
            theirs = rbac({"sourced_metadata": {"metadata_matcher": at(*path, namespace="envoy.filters.http.mcp")}})
            config = configured(envoy={"http_filters": [theirs], "policies": "calls"})
    read = keys(config)
    assert read is not None
    assert path[0] in read
    assert read <= MINIMUM | {path[0], "shown", "forwarded", "early"}


def test_rate_limits_read_what_they_count_by() -> None:
    limits = [
        {"by": ["tool"], "requests": 1, "per": "minute"},
        {"by": ["session"], "requests": 1, "per": "minute", "scope": "global"},
    ]
    assert keys(configured(rate_limits=limits, rate_limit_service={"address": "limits:8081"})) == (
        MINIMUM | {"tool", "session", "shown", "forwarded", "early"}
    )


def test_full_asks_for_all() -> None:
    assert keys(configured(metadata={"detail": "full"})) is None


EXT_PROC = f"{HTTP}.ext_proc.v3.ExternalProcessor".removeprefix("type.googleapis.com/")
AUTHZ = f"{HTTP}.ext_authz.v3.ExtAuthz".removeprefix("type.googleapis.com/")
MUTATION = f"{HTTP}.header_mutation.v3.HeaderMutation".removeprefix("type.googleapis.com/")


def setting(value: str) -> dict[str, Any]:
    append = {"header": {"key": "x-a", "value": value}}
    return filter_of(MUTATION, mutations={"request_mutations": [{"append": append}]})


@pytest.mark.parametrize(
    "theirs",
    [
        filter_of(AUTHZ, metadata_context_namespaces=["mcp_proxy"]),
        filter_of(AUTHZ, metadataContextNamespaces=["mcp_proxy"]),
        filter_of("envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": "-- nothing"}),
        filter_of("envoy.extensions.filters.http.wasm.v3.Wasm"),
        filter_of("acme.Filter"),
        filter_of("xds.type.v3.TypedStruct", type_url=RBAC, value={}),
        filter_of(EXT_PROC, grpc_service={"envoy_grpc": {"cluster_name": "theirs"}}),
        filter_of(EXT_PROC, grpcService={"envoyGrpc": {"clusterName": "theirs"}}),
        setting("%DYNAMIC_METADATA(mcp_proxy)%"),
        setting("%DYNAMIC_METADATA(mcp_proxy:)%"),
        setting("%METADATA(DYNAMIC:mcp_proxy:tool)%"),
        setting("%CEL(metadata.filter_metadata['mcp' + '_proxy'].tool)%"),
        setting('%COALESCE({"operators":[{"command":"DYNAMIC_METADATA","param":"mcp\\u005fproxy:tool"}]})%'),
        rbac({"metadata": {"filter": "mcp_proxy", "value": {"present_match": True}}}),
        rbac({"metadata": {"filter": "mcp_proxy", "path": [], "value": {"present_match": True}}}),
        rbac({"metadata": at("a,b")}),
        rbac({"metadata": at("k" * 65)}),
        rbac({"any": True}, condition={"select_expr": {"operand": {"ident_expr": {"name": "metadata"}}}}),
        rbac({"any": True}, checkedCondition={"expr": {"identExpr": {"name": "metadata"}}}),
        rbac({"matcher": {"typed_config": {"@type": "type.googleapis.com/xds.type.matcher.v3.CelMatcher"}}}),
        rbac({"any": True}, name="about mcp_proxy") | {"name": "theirs"} | filter_of(MUTATION, mcp_proxy={}),
    ],
    ids=lambda theirs: json.dumps(theirs)[:120],
)  # fmt: skip
def test_what_may_read_any_of_them_has_all_written(theirs: dict[str, Any]) -> None:
    assert keys(configured(envoy={"http_filters": [theirs], "policies": "calls"})) is None
    assert keys(configured(envoy={"http_filters_before": [theirs]})) is None
    on_route = {theirs["name"]: theirs["typed_config"]}
    known = {"name": theirs["name"], "typed_config": {"@type": RBAC}}
    assert keys(configured(envoy={"http_filters": [known], "typed_per_filter_config": on_route})) is None


@pytest.mark.parametrize(
    ("theirs", "more"),
    [
        (setting("%DYNAMIC_METADATA(mcp_proxy:tool)%, %DYNAMIC_METADATA(mcp_proxy:params:uri):20%"), {"tool", "params"}),
        (setting('%COALESCE({"operators":[{"command":"DYNAMIC_METADATA","param":"mcp_proxy:id"}]})%'), {"id"}),
        (setting("%DYNAMIC_METADATA(theirs)%"), set()),
        (filter_of(AUTHZ, metadata_context_namespaces=["theirs"]), set()),
        (filter_of(AUTHZ, filter_enabled_metadata=at("my_key")), {"my_key"}),
        (rbac({"matcher": {"name": "m", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
            "filter": "mcp_proxy", "path": [{"key": "tool"}]}}}), {"tool"}),
    ],
)  # fmt: skip
def test_what_names_its_keys_has_those_written(theirs: dict[str, Any], more: set[str]) -> None:
    assert keys(configured(envoy={"http_filters": [theirs], "policies": "calls"})) == MINIMUM | more


def test_whoever_renders_for_an_envoy_of_somebody_elses_asks_for_nothing() -> None:
    whole = json.dumps(plain(bootstrap(configured(), LAYOUT)))
    assert METADATA_KEY not in whole
    assert f'"{ROUTES_READ}"' not in whole


def files(config: GatewayConfig) -> Rendered:
    return render(config, LAYOUT, Path("/run/mcp"))


def test_a_change_of_what_routes_read_does_not_touch_the_listeners() -> None:
    """They drain connections, and go on with the new routes."""
    empty = {"name": "rbac", "typed_config": {"@type": RBAC}}
    before = files(configured(envoy={"http_filters": [empty]}))
    reading = {"rbac": {"@type": f"{RBAC}PerRoute", "rbac": rbac({"metadata": at("client")})["typed_config"]}}
    after = files(configured(envoy={"http_filters": [empty], "typed_per_filter_config": reading}))
    assert before.listeners == after.listeners
    assert METADATA_KEY.encode() in after.listeners.text
    assert [b'"read": "*,client,' in file.text for file in after.routes] == [True, False, False, True]


@pytest.mark.parametrize("more", [{}, {"rate_limits": [{"by": ["tool"], "requests": 1, "per": "minute"}]}])
def test_no_cluster_reads_any(more: dict[str, Any]) -> None:
    servers = {"alpha": {"url": "https://alpha.example/mcp", "sticky_sessions": True}, "beta": {"command": ["x"]}}
    static = plain(bootstrap(configured(servers=servers, **more), LAYOUT))["static_resources"]
    assert not any(NAMESPACE in word for word in words(static["clusters"]))


@pytest.mark.parametrize(
    "authentication",
    [
        {"oauth": {"issuers": [{"issuer": "https://idp.example", "audiences": ["https://gw.example"]}]}},
        {"api_keys": {"from": [{"header": "x-api-key"}, {"query": "key"}, {"cookie": "key"}], "file": "keys.yaml"}},
        {"external": {"grpc": "authz:9000", "principal_metadata": ["user"]}, "anonymous": True},
        {"mtls": {"ca": "clients.pem", "principal": "san_uri"}},
    ],
    ids=lambda authentication: next(iter(authentication)),
)
def test_all_of_what_the_gateway_renders_is_known(authentication: dict[str, Any]) -> None:
    """Also with workers at other addresses, and with everything that adds a filter."""
    config = configured(
        listen={"tls": {"certificate": "tls.pem", "key": "tls.key"}},
        servers={"alpha": {"url": "http://a.example/mcp", "sticky_sessions": True}},
        authentication=authentication,
        rate_limits=[{"by": ["principal"], "requests": 1, "per": "minute"}],
        envoy={"policies": "calls"},
        log={"access": "/dev/stdout"},
    )
    layout = Layout.in_directory(Path("/run/mcp"), workers=2)
    for extproc in (layout.extproc, (TcpAddress("10.0.0.1", 9002),)):
        for listener in plain(bootstrap(config, replace(layout, extproc=extproc)))["static_resources"]["listeners"]:
            assert keys_read(listener, (NAMESPACE,)) is not None
