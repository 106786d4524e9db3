"""What Kuadrant's gateway and its Envoy read."""

from __future__ import annotations

import json

import yaml

from bench.peers.kuadrant import bootstrap, configuration

SERVERS = {"one": "http://127.0.0.1:7001/one", "two": "http://127.0.0.1:7001/two"}


def test_each_server_has_a_host_name_of_its_own() -> None:
    servers = yaml.safe_load(configuration(SERVERS))["servers"]
    assert [server["url"] for server in servers] == list(SERVERS.values())
    assert [server["prefix"] for server in servers] == ["one__", "two__"]
    assert len({server["hostname"] for server in servers}) == 2


def test_envoy_routes_by_what_the_router_answers() -> None:
    resources = json.loads(bootstrap(1000, 2000, 3000, SERVERS))["static_resources"]
    ports = {
        cluster["name"]: cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"][
            "socket_address"
        ]["port_value"]
        for cluster in resources["clusters"]
    }
    assert ports == {"router": 3000, "broker": 2000, "one": 7001, "two": 7001}
    (listener,) = resources["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 1000}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    hosts = {
        host["routes"][0]["route"]["cluster"]: host["domains"] for host in manager["route_config"]["virtual_hosts"]
    }
    named = {server["name"]: [server["hostname"]] for server in yaml.safe_load(configuration(SERVERS))["servers"]}
    assert hosts == {"broker": ["127.0.0.1:1000"], **named}
    assert [each["name"] for each in manager["http_filters"]] == [
        "envoy.filters.http.ext_proc",
        "envoy.filters.http.router",
    ]
