"""Where the operator's filters stand in the rendered configuration, and that they stand there word for word."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.run.envoy_binary import find_envoy

TYPE = "type.googleapis.com/envoy.extensions.filters.http"
RBAC = {
    "name": "envoy.filters.http.rbac",
    "typed_config": {
        "@type": f"{TYPE}.rbac.v3.RBAC",
        "rules": {"policies": {"a_b": {"permissions": [{"any": True}], "principals": [{"any": True}]}}},
    },
}
UNKNOWN = {"name": "acme", "typed_config": {"@type": "type.googleapis.com/acme.Filter", "some_key": [1, 2.5, None, ""]}}
LUA = {"name": "lua", "typed_config": {"@type": f"{TYPE}.lua.v3.Lua"}}
FAULT = {"name": "envoy.filters.http.fault", "typed_config": {"@type": f"{TYPE}.fault.v3.HTTPFault"}}
CLUSTER = {"name": "authz", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "authz"}}
BROWSERS = ["envoy.filters.http.cors", "mcp_origin"]
OURS = ["envoy.filters.http.custom_response", "envoy.filters.http.buffer"]
EXT_PROC, ROUTER = "envoy.filters.http.ext_proc", "envoy.filters.http.router"
DECIDING = [EXT_PROC, "mcp_responses", "mcp_refused", "mcp_length"]
EARLY, ONWARD = ["mcp_judge", "mcp_judged_length"], ["mcp_onward"]
EXT_AUTHZ = {"name": "authz", "typed_config": {
    "@type": f"{TYPE}.ext_authz.v3.ExtAuthz", "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}},
}}  # fmt: skip
LIMIT = {"by": ["tool"], "requests": 1, "per": "minute"}


def whole(folder: Path, **sections: Any) -> dict[str, Any]:
    config = GatewayConfig.model_validate({"servers": {"a": {"url": "http://127.0.0.1:1/mcp"}}, **sections})
    parsed: dict[str, Any] = json.loads(to_json(bootstrap(config, Layout.in_directory(folder))))
    return parsed


def rendered(folder: Path, **sections: Any) -> dict[str, Any]:
    return whole(folder, **sections)["staticResources"]  # type: ignore[no-any-return]


def managers(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item["filterChains"][0]["filters"][0]["typedConfig"] for item in resources["listeners"]}


def names(manager: dict[str, Any]) -> list[str]:
    return [item["name"] for item in manager["httpFilters"]]


@pytest.mark.parametrize(
    ("sections", "chain"),
    [
        ({}, [*OURS, *DECIDING, ROUTER]),
        (
            {"envoy": {"http_filters_before": [FAULT], "http_filters": [RBAC]}},
            [OURS[0], FAULT["name"], OURS[1], *EARLY, RBAC["name"], *ONWARD, *DECIDING, ROUTER],
        ),
        (
            {"envoy": {"http_filters": [RBAC, EXT_AUTHZ], "clusters": [CLUSTER]}},
            [*OURS, *EARLY, RBAC["name"], EXT_AUTHZ["name"], "mcp_no_query", *ONWARD, *DECIDING, ROUTER],
        ),
        (
            {"envoy": {"http_filters": [RBAC, LUA]}},
            [*OURS, "mcp_judge", RBAC["name"], LUA["name"], *DECIDING, ROUTER],
        ),
        (
            {"envoy": {"http_filters": [RBAC, FAULT], "policies": "calls"}},
            [*OURS, *DECIDING, RBAC["name"], FAULT["name"], ROUTER],
        ),
        ({"rate_limits": [LIMIT]}, [*OURS, *DECIDING, "mcp_rate_limit/0", ROUTER]),
        (
            {
                "rate_limits": [{**LIMIT, "scope": "global"}, LIMIT],
                "rate_limit_service": {"address": "127.0.0.1:1"},
                "envoy": {"http_filters": [RBAC]},
            },
            [
                *OURS, *EARLY, RBAC["name"], "mcp_rate_limit/1", "mcp_rate_limit_numbers", "mcp_rate_limit",
                *ONWARD, *DECIDING, ROUTER,
            ],
        ),
    ],
)  # fmt: skip
def test_the_order_of_the_filters(tmp_path: Path, sections: Any, chain: list[str]) -> None:
    envoy = whole(tmp_path, **sections)
    del envoy["admin"]
    found = managers(envoy["staticResources"])
    chain = [*BROWSERS, *chain]
    assert names(found["mcp"]) == chain
    if "mcp_batches" in found:
        assert names(found["mcp_batches"]) == chain
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(envoy))
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def test_word_for_word(tmp_path: Path) -> None:
    """Types that only Envoy knows, too."""
    envoy = {"http_filters": [RBAC, UNKNOWN], "clusters": [CLUSTER]}
    resources = rendered(tmp_path, envoy=envoy)
    [rbac, unknown] = managers(resources)["mcp"]["httpFilters"][5:7]
    assert rbac == {"name": RBAC["name"], "typedConfig": RBAC["typed_config"]}
    assert unknown == {"name": UNKNOWN["name"], "typedConfig": UNKNOWN["typed_config"]}
    assert CLUSTER in resources["clusters"]


def test_local_counters_are_shared_with_batches(tmp_path: Path) -> None:
    """One listener with two addresses; otherwise two, of which the second believes the first about the client's address."""
    limited = rendered(tmp_path, rate_limits=[LIMIT])
    [clients] = [item for item in limited["listeners"] if item["name"] == "mcp"]
    assert clients["additionalAddresses"][0]["address"]["pipe"]["path"].endswith("batches.sock")
    assert "mcp_batches" not in managers(limited)
    judged = managers(rendered(tmp_path, envoy={"http_filters": [RBAC]}))
    assert (judged["mcp"]["useRemoteAddress"], judged["mcp_batches"]["useRemoteAddress"]) == (True, False)


def test_without_policies_nothing_is_added(tmp_path: Path) -> None:
    resources = rendered(tmp_path)
    routes = managers(resources)["mcp"]["routeConfig"]["virtualHosts"][0]["routes"]
    assert [route["name"] for route in routes] == [
        "mcp/a", "mcp/endpoint/streams", "mcp/endpoint/events", "mcp/endpoint",
        "mcp/slash/endpoint/preflight", "mcp/slash/endpoint/query", "mcp/slash/endpoint", "mcp/other",
    ]  # fmt: skip
    assert [cluster["name"] for cluster in resources["clusters"]] == ["mcp/a", "mcp_extproc", "mcp_nowhere"]
    assert "requestAttributes" not in json.dumps(managers(resources)["mcp"])


def test_a_request_that_passed_undecided_goes_nowhere(tmp_path: Path) -> None:
    """To a server only with the word of a decision; before it, to a cluster without endpoints."""
    resources = rendered(tmp_path, envoy={"http_filters": [RBAC]})
    routes = managers(resources)["mcp"]["routeConfig"]["virtualHosts"][0]["routes"]
    assert [route["name"] for route in routes] == [
        "mcp/a/early",
        "mcp/a",
        "mcp_act/a/events",
        "mcp_act/a",
        "mcp_act/endpoint/streams",
        "mcp_act/endpoint/events",
        "mcp_act/endpoint",
        "mcp_judge/endpoint/streams",
        "mcp_judge/endpoint/events",
        "mcp_judge/endpoint",
        "mcp/slash/endpoint/preflight",
        "mcp/slash/endpoint/query",
        "mcp/slash/endpoint",
        "mcp/other",
    ]
    keys = [[m["path"][0]["key"] for m in route["match"].get("dynamicMetadata", [])] for route in routes]
    assert keys == [
        ["server", "early"],
        ["server", "forwarded"],
        *[["shown", "server"]] * 2,
        *[["shown"]] * 3,
        *[[]] * 7,
    ]
    assert [route["route"]["cluster"] for route in routes[:10]] == ["mcp/a", "mcp/a", *["mcp_nowhere"] * 8]
    [nowhere] = [cluster for cluster in resources["clusters"] if cluster["name"] == "mcp_nowhere"]
    assert "loadAssignment" not in nowhere
    assert set(routes[-1]["typedPerFilterConfig"]) == {"mcp_judge", EXT_PROC}
