"""``envoy attach``: what it adds and where, what it leaves alone, when it refuses. Nothing runs but Envoy's own check."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.envoy.attach.endpoint import Attached, attach
from mcp_extproc.envoy.attach.fragments import fragments
from mcp_extproc.envoy.attach.target import Choice
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.message import camel
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.processes import ROOT
from tests.support.tls import Authority

EXISTING = (ROOT / "envoy" / "existing.yaml").read_text()
LAYOUT = Layout.in_directory(Path("/run/mcp-extproc"))
API = Choice("https", None, ("api",))
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

Data = dict[str, Any]


def gateway(**config: Any) -> GatewayConfig:
    notes = {"url": "http://127.0.0.1:3001/mcp"}
    return GatewayConfig.model_validate({"listen": {"address": "0.0.0.0"}, "servers": {"notes": notes}, **config})


def http_filter(kind: str, **config: Any) -> Data:
    kinds = {"router": "Router", "rbac": "RBAC", "lua": "Lua", "cors": "Cors", "jwt_authn": "JwtAuthentication"}
    message = f"type.googleapis.com/envoy.extensions.filters.http.{kind}.v3.{kinds.get(kind, kind.title())}"
    return {"name": f"their.{kind}", "typed_config": {"@type": message, **config}}


def bootstrap(*filters: str | Data, routes: list[Data] | None = None, **manager: Any) -> Data:
    """One listener with one virtual host; filters by their kinds."""
    config = {
        "@type": HCM,
        "stat_prefix": "in",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}] if routes is None else routes,
        }]},
        "http_filters": [http_filter(item) if isinstance(item, str) else item for item in filters or ("router",)],
        **manager,
    }  # fmt: skip
    return {"static_resources": {"listeners": [listener("in", config)]}}


def listener(name: str, manager: Data) -> Data:
    return {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 8080}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def attached(
    data: Data | str, config: GatewayConfig | None = None, choice: Choice | None = None, layout: Layout = LAYOUT
) -> Attached:
    text = data if isinstance(data, str) else json.dumps(data)
    return attach(text, "envoy.yaml", config or gateway(), layout, choice or Choice())


def parsed(text: str) -> Any:
    """By libyaml, as much is read."""
    return yaml.load(text, yaml.CSafeLoader)


@functools.cache
def in_the_example() -> Attached:
    """What several tests begin with."""
    return attach(EXISTING, "envoy.yaml", gateway(), LAYOUT, API)


def loaded(result: Attached) -> Data:
    data: Data = json.loads(result.text) if result.text.startswith("{") else parsed(result.text)
    return data


def manager_of(data: Data, index: int = 0) -> Data:
    manager: Data = data["static_resources"]["listeners"][index]["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def names(manager: Data) -> list[str]:
    return [item["name"].removeprefix("their.") for item in manager["http_filters"]]


# -- What stays, and what comes ---------------------------------------------------------------------------------------------


def _without_ours(data: Data) -> Data:
    """Takes out what is known to be ours by the names that the documentation gives."""
    left = copy.deepcopy(data)
    resources = left["static_resources"]
    resources["listeners"] = [item for item in resources["listeners"] if not item["name"].startswith("mcp_")]
    resources["clusters"] = [item for item in resources["clusters"] if not item["name"].startswith(("mcp/", "mcp_"))]
    for item in resources["listeners"]:
        manager = item["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [f for f in manager["http_filters"] if not f["name"].startswith("mcp/")]
        for host in manager["route_config"]["virtual_hosts"]:
            host["routes"] = [r for r in host["routes"] if not r.get("name", "").startswith("mcp")]
        replies = manager.get("local_reply_config", {"mappers": []})
        replies["mappers"] = [m for m in replies["mappers"] if "mcp_extproc" not in json.dumps(m)]
    return left


def test_everything_else_stays() -> None:
    original = parsed(EXISTING)
    result = loaded(in_the_example())
    assert result != original
    assert _without_ours(result) == original
    # Order of keys, too, and how values are written.
    kept = [line for line in EXISTING.splitlines() if not line.lstrip().startswith("#")]
    remaining = iter(in_the_example().text.splitlines())
    assert [line for line in kept if line not in remaining] == []


def test_a_second_time_changes_nothing() -> None:
    once = in_the_example()
    assert attached(once.text, choice=API) == once


@pytest.mark.parametrize(
    "config",
    [
        gateway(servers={"other": {"url": "http://127.0.0.1:3002/mcp"}}),
        gateway(listen={"address": "0.0.0.0", "path": "/tools"}),
        gateway(envoy={"policies": "calls"}),
        gateway(rate_limits=[{"requests": 5, "per": "minute"}], telemetry={"metrics": {}}),
    ],
    ids=["servers", "path", "policies", "limits and records"],
)
def test_a_changed_configuration_replaces_what_was_added(config: GatewayConfig) -> None:
    once = in_the_example()
    again = attached(once.text, config, API)
    assert again.text == attached(EXISTING, config, API).text
    assert attached(again.text, choice=API).text == once.text


def test_it_moves_to_another_place() -> None:
    www = Choice("https", None, ("status",))
    once = in_the_example()
    assert attached(once.text, choice=www).text == attached(EXISTING, choice=www).text


def test_json_stays_json_and_the_others_spelling_works() -> None:
    def spelled(data: Any) -> Any:
        if isinstance(data, dict):
            return {key if key == "@type" else camel(key): spelled(value) for key, value in data.items()}
        return [spelled(item) for item in data] if isinstance(data, list) else data

    plain = bootstrap("rbac", "router")
    result = json.loads(attached(json.dumps(spelled(plain))).text)
    chain = result["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0]["typedConfig"]
    assert names({"http_filters": chain["httpFilters"]}) == names(manager_of(loaded(attached(plain))))
    assert set(result["staticResources"]) == {"listeners", "clusters"}
    assert set(result) == {"staticResources"}
    again = json.dumps(spelled(plain))
    assert attached(attached(again).text).text == attached(again).text


def test_without_policies_one_visit_is_enough() -> None:
    assert names(manager_of(loaded(attached(bootstrap())))) == [
        *FIRST, "mcp/custom_response", "mcp/buffer", "mcp/ext_proc", "mcp/responses", "mcp/refused", "mcp/length", "router",
    ]  # fmt: skip


FIRST = ["mcp/marker", "mcp/cors", "mcp/origin"]

ORDERS: list[tuple[str, str]] = [
    # What is there: what it becomes. J looks at requests for policies, M decides and forwards.
    ("router", "M router"),
    ("lua router", "lua M router"),
    ("rbac router", "J rbac M router"),
    ("ext_authz router", "J ext_authz M router"),
    ("ratelimit router", "J ratelimit M router"),
    ("local_ratelimit router", "J local_ratelimit M router"),
    ("jwt_authn rbac router", "jwt_authn J rbac M router"),
    ("cors jwt_authn oauth2 lua ext_authz rbac ratelimit lua router",
     "cors jwt_authn oauth2 lua J ext_authz rbac ratelimit lua M router"),
    ("local_ratelimit jwt_authn router", "local_ratelimit jwt_authn M router"),
    ("local_ratelimit basic_auth rbac router", "local_ratelimit basic_auth J rbac M router"),
    ("compressor fault api_key_auth router", "compressor fault api_key_auth M router"),
    ("jwt_authn credential_injector router", "jwt_authn M credential_injector router"),
    ("jwt_authn rbac dynamic_forward_proxy router", "jwt_authn J rbac M dynamic_forward_proxy router"),
    ("dynamic_forward_proxy rbac router", "dynamic_forward_proxy J rbac M router"),
]  # fmt: skip


@pytest.mark.parametrize(("there", "expected"), ORDERS, ids=[there for there, _ in ORDERS])
def test_the_order_of_filters(there: str, expected: str) -> None:
    found = names(manager_of(loaded(attached(bootstrap(*there.split())))))
    assert found[:3] == FIRST
    ours = {
        "mcp/custom_response": "", "mcp/buffer": "", "mcp/judge": "J", "mcp/ext_proc": "M", "mcp/responses": "",
        "mcp/refused": "", "mcp/length": "", "mcp/judged_length": "", "mcp/no_query": "", "mcp/onward": "",
    }  # fmt: skip
    assert " ".join(filter(None, (ours.get(name, name) for name in found[3:]))) == expected


LOGS_ALL = {"access_log": [{"typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"}}]}  # fmt: skip


@pytest.mark.parametrize(
    ("data", "is_early"),
    [
        (bootstrap("rbac", "ratelimit", "router"), False),  # of a type that is spelled otherwise: not known
        (bootstrap("jwt_authn", "rbac", "router"), True),
        (bootstrap("lua", "rbac", "router"), False),  # it may read metadata with the response
        (bootstrap("rbac", "lua", "rbac", "router"), False),
        (bootstrap("rbac", "router", **LOGS_ALL), False),
    ],
)
def test_one_visit_where_no_filter_between_reads_bodies(data: Data, is_early: bool) -> None:
    manager = manager_of(loaded(attached(data)))
    assert ("mcp/onward" in names(manager)) is is_early
    hosts = manager["route_config"]["virtual_hosts"]
    early = [route for route in hosts[0]["routes"] if route.get("name", "").endswith("/early")]
    assert bool(early) is is_early
    for route in early:
        assert set(route["typed_per_filter_config"]) >= {"mcp/onward", "mcp/ext_proc", "mcp/length"}


def test_a_filter_that_reads_what_the_gateway_writes_is_a_policy() -> None:
    script = http_filter("lua", default_source_code={"inline_string": "handle:metadata():get('mcp_proxy')"})
    assert names(manager_of(loaded(attached(bootstrap("lua", script, "router"))))) == [
        *FIRST, "lua", "mcp/custom_response", "mcp/buffer", "mcp/judge", "lua", "mcp/ext_proc", "mcp/responses",
        "mcp/refused", "mcp/length", "router",
    ]  # fmt: skip


def test_calls_only() -> None:
    """``policies: calls`` has them see what is forwarded, and the warning says what they do not see."""
    result = attached(bootstrap("rbac", "router"), gateway(envoy={"policies": "calls"}))
    assert names(manager_of(loaded(result))) == [
        *FIRST, "mcp/custom_response", "mcp/buffer", "mcp/ext_proc", "mcp/responses", "mcp/refused", "mcp/length",
        "rbac", "router",
    ]  # fmt: skip
    assert any("their.rbac applies to calls only" in warning for warning in result.warnings)


def test_filters_are_disabled_but_on_the_endpoints_first_route() -> None:
    manager = manager_of(loaded(attached(bootstrap("rbac", "router"))))
    ours = [item for item in manager["http_filters"] if item["name"].startswith("mcp/")]
    assert ours
    assert all(item["disabled"] for item in ours)
    [host] = manager["route_config"]["virtual_hosts"]
    enabling = {
        route["name"]: set(route["typed_per_filter_config"])
        for route in host["routes"]
        if any("FilterConfig" in item["@type"] for item in route.get("typed_per_filter_config", {}).values())
    }
    every = {item["name"] for item in ours}
    assert enabling == {
        "mcp/upgrade": {"mcp/marker"},
        **dict.fromkeys(("mcp_judge/endpoint/streams", "mcp_judge/endpoint/events", "mcp_judge/endpoint"), every),
    }


def test_a_filter_of_one_virtual_server() -> None:
    """Which is off everywhere else."""
    kind = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
    lua = {key: value for key, value in http_filter("lua").items() if key == "typed_config"}
    config = gateway(
        virtual_servers={
            "a": {"servers": {"notes": "all"}, "typed_per_filter_config": {"gate": {"@type": kind, "config": {}}}},
            "b": {"servers": {"notes": "all"}},
        },
        envoy={
            "http_filters_before": [{"name": "gate", **lua}],
            "typed_per_filter_config": {"gate": {"@type": kind, "disabled": True}},
        },
    )
    manager = manager_of(loaded(attached(bootstrap(), config)))
    assert next(item for item in manager["http_filters"] if item["name"] == "mcp/gate")["disabled"] is True
    chosen = {
        route["name"]: route["typed_per_filter_config"]["mcp/gate"]
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]
        if route.get("name") in ("mcp/endpoint", "mcp/virtual/a", "mcp/virtual/b")
    }
    off = {"@type": kind, "disabled": True}
    assert chosen == {"mcp/endpoint": off, "mcp/virtual/a": {"@type": kind, "config": {}}, "mcp/virtual/b": off}


def test_several_virtual_hosts() -> None:
    manager = manager_of(loaded(attached(EXISTING, choice=Choice("https", None, ("api", "status")))), 1)
    ours = [sum(route.get("name", "").startswith("mcp") for route in host["routes"]) for host in
            manager["route_config"]["virtual_hosts"]]  # fmt: skip
    assert ours[0] == 0
    assert ours[1] == ours[2] > 0


def test_the_listener_for_batches_is_a_copy() -> None:
    result = loaded(in_the_example())
    clients, batches = manager_of(result, 1), manager_of(result, -1)
    assert result["static_resources"]["listeners"][-1]["name"] == "mcp_batches"
    assert batches["http_filters"] == clients["http_filters"]
    assert batches["local_reply_config"] == clients["local_reply_config"]
    assert batches["access_log"] == clients["access_log"]
    [host] = batches["route_config"]["virtual_hosts"]
    [original] = [item for item in clients["route_config"]["virtual_hosts"] if item["name"] == "api"]
    # Nothing else is served there, and TLS was between the client and its own listener.
    assert {**host, "require_tls": "ALL"} == {
        **original, "routes": [route for route in original["routes"] if route.get("name", "").startswith("mcp")]
    }  # fmt: skip
    assert (batches["use_remote_address"], batches["skip_xff_append"]) == (False, True)
    assert result["static_resources"]["listeners"][-1]["per_connection_buffer_limit_bytes"] == 1048576


def test_where_workers_listen() -> None:
    layout = Layout.in_directory(Path("/elsewhere"), 2)
    data = loaded(attached(bootstrap(), layout=layout))
    [cluster] = [item for item in data["static_resources"]["clusters"] if item["name"] == "mcp_extproc"]
    assert "/elsewhere/extproc-1.sock" in json.dumps(cluster)
    assert "mcp/header_mutation" in names(manager_of(data))


# -- Refusals -----------------------------------------------------------------------------------------------------------------


def _second(**manager: Any) -> Data:
    data = bootstrap()
    data["static_resources"]["listeners"].append(listener("second", {**manager_of(bootstrap()), **manager}))
    return data


def _with(change: Callable[[Data], object]) -> Data:
    data = bootstrap()
    change(data)
    return data


def _hosts(*hosts: Data) -> Data:
    return bootstrap(route_config={"virtual_hosts": [{"domains": [host["name"]], **host} for host in hosts]})


def _wrapped(config: Data) -> Data:
    """A chain in which an unsafe filter has another look."""
    return bootstrap({"name": "their.x", **config}, "jwt_authn", "router")


TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
TCP_ONLY = {"filters": [{"name": "tcp", "typed_config": {"@type": TCP_PROXY}}]}
WITH_MATCHER = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"
TYPED_STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
LDS = {"lds_config": {"path_config_source": {"path": "/lds.yaml"}}}
ASKS_US = http_filter("ext_proc", grpc_service={"envoy_grpc": {"cluster_name": "mcp_extproc"}})

REFUSALS: list[tuple[str, Data, list[str]]] = [
    ("nothing", {}, ["no listener in static_resources has an HTTP connection manager", "envoy bootstrap"]),
    ("tcp only", {"static_resources": {"listeners": [{"name": "tcp", "filter_chains": [TCP_ONLY]}]}},
     ["no listener in static_resources"]),
    ("lds", {"dynamic_resources": LDS}, ["lds_config", "fragments"]),
    ("several", _second(), ["ambiguous", "'in'", "'second'", "--listener"]),
    ("rds", bootstrap(rds={"route_config_name": "main"}, route_config=None), ["rds", "fragments"]),
    ("scoped", bootstrap(scoped_routes={"name": "x"}, route_config=None), ["scoped_routes", "fragments"]),
    ("no hosts", bootstrap(route_config={"name": "x"}), ["no virtual host"]),
    ("several hosts", _hosts({"name": "a"}, {"name": "b"}), ["a, b", "--virtual-host"]),
    ("matcher", _hosts({"name": "a", "matcher": {"x": 1}}), ["matcher tree"]),
    ("no router", bootstrap("lua"), ["no envoy.filters.http.router"]),
    ("router first", bootstrap("router", "lua"), ["order", "last"]),
    ("two routers", bootstrap("router", "router"), ["order", "once"]),
    ("rbac first", bootstrap("rbac", "jwt_authn", "router"),
     ["order", "unsafe", "Move their.jwt_authn in front of their.rbac"]),
    ("ext_authz between", bootstrap("jwt_authn", "ext_authz", "oauth2", "router"),
     ["unsafe", "their.ext_authz", "their.oauth2"]),
    ("reader first", bootstrap(http_filter("lua", code="mcp_proxy"), "jwt_authn", "router"),
     ["unsafe", "reads what the gateway"]),
    ("inside a matcher",
     _wrapped({"typed_config": {"@type": WITH_MATCHER, "extension_config": http_filter("rbac")}}),
     ["unsafe", "their.x judges"]),
    ("typed struct",
     _wrapped({"typed_config": {"@type": TYPED_STRUCT, "type_url": f"{HTTP}.ext_authz.v3.ExtAuthz"}}),
     ["unsafe", "their.x judges"]),
    ("discovered", _wrapped({"config_discovery": {"type_urls": [f"{HTTP}.rbac.v3.RBAC"]}}), ["unsafe", "their.x judges"]),
    ("native namespace", bootstrap(http_filter("rbac", filter="envoy.filters.http.mcp"), "router"), ["metadata.namespaces"]),
    ("our cluster", bootstrap(ASKS_US, "router"), ["their.ext_proc", "mcp_extproc", "remove it"]),
    ("cluster's name", _with(lambda data: data["static_resources"].update(clusters=[{"name": "mcp/notes"}])),
     ["'mcp/notes'", "rename"]),
    ("listener's name", _with(lambda data: data["static_resources"]["listeners"].append({"name": "mcp_repair"})),
     ["'mcp_repair'", "rename"]),
    ("route's name", bootstrap(routes=[{"name": "mcp/x", "match": {"prefix": "/"}}]), ["'mcp/x'", "rename"]),
    ("stage", _hosts({"name": "a", "rate_limits": [{"stage": 10}]}), ["stage 10"]),
    ("not a list", {"static_resources": {"listeners": {"name": "x"}}}, ["listeners is not a list"]),
    ("not a mapping", {"static_resources": []}, ["static_resources is not a mapping"]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "says"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refusals(data: Data, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        attached(data)
    message = str(caught.value)
    assert message.startswith("envoy.yaml: ")
    assert [words for words in says if words not in message] == [], message


TAKEN: list[Data] = [
    {"path": "/mcp"},
    {"path": "/mcp", "headers": [{"name": "x", "present_match": True}]},
    {"prefix": "/mcp"},
    {"path_separated_prefix": "/mcp"},
    {"path": "/MCP", "case_sensitive": False},
    {"safe_regex": {"regex": "/mcp"}},
    {"safe_regex": {"regex": "/(mcp|sse)"}},
]
FREE: list[Data] = [
    {"prefix": "/"},
    {"prefix": "/m"},
    {"prefix": "/mcp/"},
    {"path": "/mcp/"},
    {"path": "/MCP"},
    {"path": "/"},
    {"path_separated_prefix": "/api"},
    {"safe_regex": {"regex": ".*"}},
    {"safe_regex": {"regex": "/[a-z-]+"}},
    {"safe_regex": {"regex": "/mcp/.*"}},
    {"connect_matcher": {}},
]


@pytest.mark.parametrize("match", TAKEN, ids=str)
def test_another_route_for_the_path(match: Data) -> None:
    with pytest.raises(ConfigError, match=r"has a route for /mcp already \(theirs\): remove it, or set listen\.path"):
        attached(bootstrap(routes=[{"name": "theirs", "match": match}]))


def test_another_route_for_the_path_of_a_virtual_server() -> None:
    theirs = bootstrap(routes=[{"name": "theirs", "match": {"path": "/mcp/v"}}])
    with pytest.raises(ConfigError, match=r"a route for /mcp/v already .* or set virtual_servers\.v\.path in"):
        attached(theirs, gateway(virtual_servers={"v": {}}))
    # Of its path it takes its own requests only.
    attached(theirs, gateway(virtual_servers={"v": {"path": "/mcp/v", "headers": {"x-tenant": "acme"}}}))


def test_a_host_that_no_virtual_host_has() -> None:
    theirs = bootstrap()
    theirs_host = manager_of(theirs)["route_config"]["virtual_hosts"][0]
    assert theirs_host["domains"] == ["*"], "any host reaches it"
    attached(theirs, gateway(virtual_servers={"v": {"host": "v.example"}}))
    for domains, host, fits in (
        (["api.example"], "v.example", False), (["v.example:*"], "v.example", True), (["*.example"], "v.example", True),
        (["*.example"], "*.v.example", True), (["v.example"], "*.v.example", False), (["V.Example"], "v.example", True),
    ):  # fmt: skip
        text = bootstrap()
        manager_of(text)["route_config"]["virtual_hosts"][0]["domains"] = domains
        if fits:
            attached(text, gateway(virtual_servers={"v": {"host": host}}))
            continue
        with pytest.raises(ConfigError, match=r"has the domain \S+ of virtual_servers\.v\.hosts: add it"):
            attached(text, gateway(virtual_servers={"v": {"host": host}}))


@pytest.mark.parametrize("match", FREE, ids=str)
def test_a_route_for_other_paths_too_is_no_conflict(match: Data) -> None:
    manager = manager_of(loaded(attached(bootstrap(routes=[{"name": "theirs", "match": match}]))))
    # What they serve with a slash at the end stays theirs.
    is_free = match in (
        {"path": "/MCP"}, {"path": "/"}, {"path_separated_prefix": "/api"}, {"safe_regex": {"regex": "/[a-z-]+"}},
        {"connect_matcher": {}},
    )  # fmt: skip
    redirects = ["mcp/slash/endpoint/preflight", "mcp/slash/endpoint/query", "mcp/slash/endpoint"]
    assert [route["name"] for route in manager["route_config"]["virtual_hosts"][0]["routes"]] == [
        "mcp/upgrade", "mcp/notes", "mcp/endpoint/streams", "mcp/endpoint/events", "mcp/endpoint",
        *(redirects if is_free else []), "theirs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (Choice("nobody"), "no listener 'nobody' has an HTTP connection manager; those that do: 'http', 'https'"),
        (Choice("https"), "several virtual hosts: www, api, status"),
        (Choice("https", None, ("shop",)), "no virtual host 'shop'; it has www, api, status"),
        (Choice("https", "main"), "no filter chain 'main'"),
        (Choice("https", None, ("www",)), "virtual host 'www' has a route for /mcp already"),
        (Choice(), "the HTTP connection manager is ambiguous: 'http'; 'https'"),
    ],
    ids=str,
)
def test_choices_that_are_none(choice: Choice, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        attached(EXISTING, choice=choice)
    assert says in str(caught.value)


def test_a_virtual_host_chooses_the_listener() -> None:
    assert attached(EXISTING, choice=Choice(None, None, ("api",))).text == in_the_example().text


def test_filter_chains() -> None:
    data = bootstrap()
    [chains] = [item["filter_chains"] for item in data["static_resources"]["listeners"]]
    chains[0]["name"] = "plain"
    chains.append(copy.deepcopy(chains[0]) | {"name": "tls"})
    with pytest.raises(ConfigError, match="'in', filter chain plain; 'in', filter chain tls"):
        attached(data)
    result = loaded(attached(data, choice=Choice(None, "tls")))
    first, second = result["static_resources"]["listeners"][0]["filter_chains"]
    assert first == chains[0]
    assert second != chains[1]


# -- Warnings -----------------------------------------------------------------------------------------------------------------


def test_a_safe_listener_has_no_warning() -> None:
    assert attached(bootstrap("jwt_authn", "rbac", "router")).warnings == ()


def _rbac(*principals: Data) -> Data:
    return http_filter("rbac", rules={"policies": {"p": {"principals": list(principals)}}})


JWT = http_filter("jwt_authn", providers={"a": {"issuer": "x"}, "b": {"forward": True}})
WARNINGS: list[tuple[str, Data, GatewayConfig, str]] = [
    ("forwarded", bootstrap(use_remote_address=False), gateway(), "x-forwarded-for"),
    ("paths", bootstrap(normalize_path=False), gateway(), "normalize_path"),
    ("slashes", bootstrap(merge_slashes=None), gateway(), "//y"),
    ("escaped", bootstrap(path_with_escaped_slashes_action="KEEP_UNCHANGED"), gateway(), "REJECT_REQUEST"),
    ("csrf", bootstrap("rbac", "csrf", "router"), gateway(), "their.csrf comes after the gateway"),
    ("tokens", bootstrap(JWT, "router"), gateway(), "forward: true"),
    ("hosts", bootstrap(), gateway(listen={}), "listen.address"),
    ("long", bootstrap(common_http_protocol_options={"max_stream_duration": "60s"}), gateway(), "max_stream_duration"),
    ("unused", bootstrap(), gateway(log={"access": "/tmp/a.log"}), "log.access of the gateway's"),
]


@pytest.mark.parametrize(("data", "config", "says"), [row[1:] for row in WARNINGS], ids=[row[0] for row in WARNINGS])
def test_warnings(data: Data, config: GatewayConfig, says: str) -> None:
    [warning] = attached(data, config).warnings
    assert says in warning


@pytest.mark.parametrize(
    "principal",
    [
        {"authenticated": {"principal_name": {"exact": "spiffe://x"}}},
        {"direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}},
        {"source_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}},
        {"sourceIp": {"addressPrefix": "10.0.0.0", "prefixLen": 8}},
    ],
    ids=lambda principal: next(iter(principal)),
)
def test_no_batches_where_a_policy_looks_at_the_connection(principal: Data) -> None:
    """A rule that denies by certificate or address would not match the worker's own connection."""
    result = attached(bootstrap(_rbac(principal), "router"), gateway(vetting=[{}]))
    assert any("calls that their users consented to" in warning for warning in result.warnings)
    assert any("their.rbac depends on the client's connection" in warning for warning in result.warnings)
    assert [item["name"] for item in loaded(result)["static_resources"]["listeners"]] == [
        "in",
        "mcp_upstreams",
        "mcp_repair",
    ]


LIMIT = {"token_bucket": {"max_tokens": 1}}


@pytest.mark.parametrize(
    ("data", "config"),
    [
        (bootstrap(http_filter("local_ratelimit", **LIMIT), "router"), gateway()),
        (bootstrap("local_ratelimit", "router", route_config={"virtual_hosts": [
            {"name": "a", "domains": ["*"], "typed_per_filter_config": {"their.local_ratelimit": LIMIT}}]}), gateway()),
        (bootstrap(), gateway(rate_limits=[{"requests": 1, "per": "hour"}])),
    ],
    ids=["filter", "host", "gateway"],
)  # fmt: skip
def test_no_batches_where_envoy_counts_by_itself(data: Data, config: GatewayConfig) -> None:
    """The counters of another listener would be other counters."""
    result = attached(data, config)
    assert [warning for warning in result.warnings if "a separate limit" in warning]
    assert "mcp_batches" not in [item["name"] for item in loaded(result)["static_resources"]["listeners"]]


def test_limits_of_other_routes_are_no_reason() -> None:
    assert attached(bootstrap("local_ratelimit", "router")).warnings == ()


def test_addresses_in_headers_are_the_clients_own() -> None:
    by_address = _rbac({"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}})
    assert len(loaded(attached(bootstrap(by_address, "router")))["static_resources"]["listeners"]) == 4
    data = bootstrap(by_address, "router", use_remote_address=False)
    assert len(loaded(attached(data))["static_resources"]["listeners"]) == 3


# -- Envoy --------------------------------------------------------------------------------------------------------------------

RICH = gateway(
    servers={
        "notes": {"endpoints": ["127.0.0.1:1", "127.0.0.1:2"], "sticky_sessions": True},
        "tls": {"url": "https://127.0.0.1:3/mcp", "tls": {"insecure_skip_verify": True}},
    },
    rate_limits=[
        {"requests": 5, "per": "minute", "by": ["tool"]},
        {"requests": 7, "per": "hour", "by": ["server"], "scope": "global"},
    ],
    rate_limit_service={"address": "127.0.0.1:8081"},
    telemetry={"traces": {"endpoint": "http://localhost:4317"}},
    envoy={
        "http_filters_before": [http_filter("lua")],
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}},
            }},
        ],
        "clusters": [{"name": "authz", "type": "STATIC", "load_assignment": {"cluster_name": "authz"}}],
    },
)  # fmt: skip


def _accepted(text: str, folder: Path, name: str) -> str:
    Authority(folder)
    file = folder / name
    file.write_text(text.replace("/etc/envoy/", f"{folder}/"))
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "config", [gateway(), gateway(envoy={"policies": "calls"}), RICH], ids=["small", "calls", "rich"]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_envoy_accepts_it(config: GatewayConfig, workers: int, tmp_path: Path) -> None:
    layout = Layout.in_directory(Path("/run/mcp-extproc"), workers)
    said = _accepted(attached(EXISTING, config, API, layout).text, tmp_path, "envoy.yaml")
    assert "deprecated" not in said


def test_what_is_configured_is_attached_with_names_of_ours() -> None:
    result = loaded(attached(EXISTING, RICH, API))
    found = names(manager_of(result, 1))
    assert [name for name in found if name.startswith("mcp/")] == [
        *FIRST, "mcp/custom_response", "mcp/their.lua", "mcp/buffer", "mcp/judge", "mcp/ext_authz", "mcp/rate_limit/0",
        "mcp/rate_limit_numbers", "mcp/rate_limit", "mcp/ext_proc", "mcp/responses", "mcp/refused", "mcp/length",
        "mcp/sticky_session", "mcp/stateful_session",
    ]  # fmt: skip
    assert found.index("envoy.filters.http.rbac") in range(found.index("mcp/judge"), found.index("mcp/ext_authz"))
    assert "authz" in [cluster["name"] for cluster in result["static_resources"]["clusters"]]
    assert attached(attached(EXISTING, RICH, API).text, choice=API).text == in_the_example().text


# -- Fragments ----------------------------------------------------------------------------------------------------------------


def _pasted(data: Data, parts: Data, order: list[str]) -> Data:
    """What a reader makes of the comments."""
    result = copy.deepcopy(data)
    resources, manager = result["static_resources"], manager_of(result)
    theirs = manager["http_filters"]
    first, last = theirs.index(http_filter(order[0])), theirs.index(http_filter(order[1]))
    manager["http_filters"] = [
        *parts["first_http_filters"], *theirs[:first], *parts["http_filters"], *theirs[first:last],
        *parts["last_http_filters"], *theirs[last:],
    ]  # fmt: skip
    manager.setdefault("local_reply_config", {}).setdefault("mappers", [])[:0] = parts["local_reply_mappers"]
    # Without `redirect_routes`: something else is served there.
    manager["route_config"]["virtual_hosts"][0]["routes"][:0] = parts["routes"]
    resources["clusters"] = [*resources.get("clusters", []), *parts["clusters"]]
    resources["listeners"] += parts["listeners"]
    return result


def test_pasted_by_the_comments_they_are_what_attach_makes() -> None:
    """Where a filter may read bodies: of what stands between fragments nobody knows that it does not."""
    data = bootstrap("cors", "jwt_authn", "rbac", "lua", "ratelimit", "router")
    parts = parsed(fragments(gateway(), LAYOUT))
    pasted = _pasted(data, parts, ["rbac", "router"])
    made = loaded(attached(data))
    batches = pasted["static_resources"]["listeners"].pop()
    copied = made["static_resources"]["listeners"].pop()
    assert pasted == made
    assert batches["name"] == copied["name"] == "mcp_batches"
    ours = [
        item
        for item in manager_of({"static_resources": {"listeners": [copied]}})["http_filters"]
        if "mcp/" in item["name"]
    ]
    assert manager_of({"static_resources": {"listeners": [batches]}})["http_filters"][:-1] == ours
    # So attach takes over what was pasted.
    assert loaded(attached(json.dumps(pasted))) == loaded(attached(data))


def test_each_fragment_says_where_it_goes() -> None:
    text = fragments(RICH, LAYOUT)
    keys = [line for line in text.splitlines() if line and not line.startswith((" ", "-", "#"))]
    assert keys == [f"{key}:" for key in parsed(text)]
    before = [previous for previous, line in itertools.pairwise(text.splitlines()) if line in keys]
    assert all(line.startswith("# ") for line in before)


def test_fragments_with_everything_are_accepted(tmp_path: Path) -> None:
    parts = parsed(fragments(RICH, LAYOUT))
    data = bootstrap("cors", "router")
    data["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = 0
    manager_of(data)["route_config"]["virtual_hosts"][0]["rate_limits"] = parts["rate_limits"]
    _accepted(yaml.safe_dump(_pasted(data, parts, ["router", "router"])), tmp_path, "envoy.yaml")


# -- The commands ------------------------------------------------------------------------------------------------------------


def _run(*arguments: str, stdin: str | None = None) -> Any:
    return CliRunner(env={"XDG_RUNTIME_DIR": "/run/user/7"}).invoke(cli, ["envoy", *arguments], input=stdin)


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    file = tmp_path / "gateway.yaml"
    file.write_text("servers: {notes: {url: 'http://127.0.0.1:3001/mcp'}}\n")
    return str(file)


def test_the_command_and_its_default_addresses(config_file: str, tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(EXISTING)
    arguments = ["attach", "--config", config_file, "--listener", "https", "--virtual-host", "api"]
    result = _run(*arguments, str(file))
    assert result.exit_code == 0, result.output
    data = parsed(result.stdout)
    assert "/run/user/7/mcp-extproc/extproc-0.sock" in result.stdout
    assert "warning: listen.address" in result.stderr
    assert (
        data["static_resources"]["listeners"][-1]["address"]["pipe"]["path"] == "/run/user/7/mcp-extproc/batches.sock"
    )
    piped = _run(*arguments, "--extproc", "127.0.0.1:9002", "-", stdin=EXISTING)
    assert "9002" in piped.stdout
    assert "extproc-0.sock" not in piped.stdout


def test_records_go_to_this_machine_alone(config_file: str) -> None:
    refused = _run("bootstrap", config_file, "--collector", "10.0.0.1:9999")
    assert (refused.exit_code, "loopback" in refused.output) == (2, True)
    taken = _run("bootstrap", config_file, "--collector", "127.0.0.1:9999")
    assert (taken.exit_code, "--collector" in taken.stderr) == (0, False), "nothing is collected"


def test_attack_an_address_that_others_can_use_is_warned_of(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("servers: {a: {url: 'http://a.example/mcp'}}\naudit: {file: a.jsonl}\n")
    existing = tmp_path / "envoy.yaml"
    existing.write_text(EXISTING)
    attach = ("attach", "--config", str(config), "--listener", "https", "--virtual-host", "api", str(existing))
    at_port = ("--collector", "localhost:9999")
    tls = [f"--extproc{name}" for name in ("=127.0.0.1:1", "-ca=c", "-client-certificate=d", "-client-key=e")]
    for command in (("bootstrap", str(config)), attach, ("fragments", "--config", str(config))):
        result = _run(*command, *at_port)
        assert result.exit_code == 0, result.output
        assert "--collector 127.0.0.1:9999: any user of this machine can write records there" in result.stderr
        assert "localhost:9999" not in result.stdout, "Envoy takes no name for it"
        assert "--collector" not in _run(*command).stderr
    verified = _run("bootstrap", str(config), *at_port, *tls)
    assert "--collector" not in verified.stderr
    collector = next(
        one for one in json.loads(verified.stdout)["staticResources"]["clusters"] if one["name"] == "mcp_collector"
    )
    assert collector["transportSocket"]["name"] == "envoy.transport_sockets.tls"


def test_the_command_refuses(config_file: str) -> None:
    with pytest.raises(ConfigError, match="HTTP connection manager is ambiguous"):
        CliRunner().invoke(
            cli, ["envoy", "attach", "--config", config_file, "-"], input=EXISTING, catch_exceptions=False
        )
    result = _run("attach", "--config", config_file, "/no/such/file.yaml")
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_fragments_command(config_file: str) -> None:
    result = _run("fragments", "--config", config_file, "--workers", "2")
    assert result.exit_code == 0, result.output
    assert "/run/user/7/mcp-extproc/extproc-1.sock" in result.stdout
    assert set(parsed(result.stdout)) >= {"http_filters", "routes", "clusters", "listeners"}
