"""``envoy attach --pass-through``: what it adds to which routes, what it leaves alone, and when it refuses."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.envoy.attach.endpoint import attach
from mcp_extproc.envoy.attach.fragments import fragments
from mcp_extproc.envoy.attach.target import Choice
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.message import camel
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support import edge

LAYOUT = Layout.in_directory(Path("/run/mcp-extproc"))
LIMIT = 4 << 20
FILTER = "mcp/pass_through"
SAFE = {"use_remote_address": True, "normalize_path": True, "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST"}  # fmt: skip

Data = dict[str, Any]


def gateway(**config: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"pass_through": {}, **config})


SERVERS = {"servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}}, "listen": {"address": "0.0.0.0"}}


def existing() -> Data:
    return edge.bootstrap(1, Path("/dev/null"), edge.RBAC)


def attached(
    data: Data | None = None,
    *routes: str,
    hosts: tuple[str, ...] = (),
    config: GatewayConfig | None = None,
    **choice: Any,
) -> Data:
    text = json.dumps(existing() if data is None else data)
    chosen = Choice(pass_through=routes, pass_through_hosts=hosts, **choice)
    found: Data = json.loads(attach(text, "envoy.json", config or gateway(), LAYOUT, chosen).text)
    return found


def manager_of(data: Data) -> Data:
    found: Data = data["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def places(data: Data) -> Iterator[Data]:
    for host in manager_of(data)["route_config"]["virtual_hosts"]:
        yield host
        yield from host["routes"]


def enabled(data: Data) -> list[str]:
    """Names of virtual hosts and routes with the filter."""
    return [place.get("name", "") for place in places(data) if FILTER in place.get("typed_per_filter_config", {})]


def refused(data: Data | None = None, *routes: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        attached(data, *routes, **options)
    return str(caught.value)


def assert_envoy_takes(data: Data, folder: Path) -> None:
    file = folder / "envoy.json"
    file.write_text(json.dumps(data))
    command = [find_envoy(), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


# -- Where ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "hosts", "names"),
    [
        (("mcp",), (), ["mcp"]),
        (("other", "anywhere"), (), ["other", "anywhere"]),
        (("/other",), (), ["other"]),
        (("/other", "other"), (), ["other"]),
        ((), ("whole",), ["whole"]),
        (("/by-method",), ("dynamic", "whole"), ["by-method", "whole", "dynamic"]),
    ],
)
def test_what_is_named_gets_the_filter(
    routes: tuple[str, ...], hosts: tuple[str, ...], names: list[str], tmp_path: Path
) -> None:
    data = attached(None, *routes, hosts=hosts)
    assert enabled(data) == names
    assert_envoy_takes(data, tmp_path)


def test_all_else_is_as_it_was() -> None:
    """One filter, disabled; three keys on the route; one cluster; mappers."""
    before, after = existing(), attached(None, "by-method")
    [route] = [place for place in places(after) if place.get("name") == "by-method"]
    assert route["typed_per_filter_config"].pop(FILTER) == {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {},
    }  # fmt: skip
    assert route.pop("request_body_buffer_limit") == LIMIT
    assert route.pop("metadata") == {"filter_metadata": {"mcp_extproc": {"pass_through": True}}}
    manager = manager_of(after)
    # In front of the policies.
    ours = manager["http_filters"].pop(0)
    assert (ours["name"], ours["disabled"]) == (FILTER, True)
    assert "failure_mode_allow" not in ours["typed_config"]
    assert manager.pop("local_reply_config").keys() == {"mappers"}
    assert after["static_resources"]["clusters"].pop()["name"] == "mcp_extproc"
    assert after == before


@pytest.mark.parametrize("text", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_it_can_be_repeated_and_taken_back(text: Any) -> None:
    """Also with other routes, from then on only those; in both spellings of fields."""
    choice = Choice(pass_through=("mcp", "by-method"), pass_through_hosts=("whole",))
    once = attach(text(existing()), "envoy", gateway(), LAYOUT, choice).text
    assert attach(once, "envoy", gateway(), LAYOUT, choice).text == once
    only = attach(once, "envoy", gateway(), LAYOUT, Choice(pass_through=("other",))).text
    assert only == attach(text(existing()), "envoy", gateway(), LAYOUT, Choice(pass_through=("other",))).text


def test_what_was_there_already_stays() -> None:
    data = existing()
    for place in places(data):
        place["metadata"] = {"filter_metadata": {"theirs": {"a": 1}}}
        place["request_body_buffer_limit"] = LIMIT * 2
    manager_of(data)["local_reply_config"] = {"mappers": [{"filter": {"status_code_filter": {}}, "status_code": 418}]}
    after = attached(copy.deepcopy(data), "mcp")
    assert manager_of(after)["local_reply_config"]["mappers"][-1]["status_code"] == 418
    [route] = [place for place in places(after) if place.get("name") == "mcp"]
    assert route["request_body_buffer_limit"] == LIMIT * 2
    assert route["metadata"] == {"filter_metadata": {"theirs": {"a": 1}}}
    again = attached(after, "other")
    del again["static_resources"]["clusters"][-1]
    assert [place for place in places(again) if place.get("name") == "mcp"] == [
        place for place in places(data) if place.get("name") == "mcp"
    ]


def test_in_the_other_spelling_of_fields() -> None:
    data = json.loads(json.dumps(existing()))
    for place in places(data):
        if configs := place.pop("typed_per_filter_config", None):
            place[camel("typed_per_filter_config")] = configs
    after = attached(data, "by-method")
    [route] = [place for place in places(after) if place.get("name") == "by-method"]
    assert set(route["typedPerFilterConfig"]) == {"rbac", FILTER}


def test_beside_an_endpoint(tmp_path: Path) -> None:
    """Our filters for both, in front of the same policies; no request meets both. Taken back, the endpoint stays alone."""
    config = gateway(**SERVERS)
    both = attached(None, "mcp", config=config, virtual_hosts=("whole",))
    assert_envoy_takes(both, tmp_path)
    names = [item["name"] for item in manager_of(both)["http_filters"]]
    assert names.index("mcp/marker") == 0
    assert names.index(FILTER) == names.index("rbac") - 1 > names.index("mcp/judge") > 0
    assert [item["name"] for item in both["static_resources"]["clusters"]].count("mcp_extproc") == 1
    [endpoint] = [
        place for place in places(both) if any("marker" in name for name in place.get("typed_per_filter_config", {}))
        and "path" in place["match"] and "headers" not in place["match"]
    ]  # fmt: skip
    assert FILTER not in endpoint["typed_per_filter_config"]
    alone = attached(both, config=config, virtual_hosts=("whole",))
    assert alone == attached(None, config=config, virtual_hosts=("whole",))


def test_the_virtual_host_tells_which_prefix_is_meant() -> None:
    assert "several virtual hosts of listener 'edge' have a route for /: dynamic, tools, whole" in refused(None, "/")
    after = attached(None, "/", config=gateway(**SERVERS), virtual_hosts=("tools",))
    assert enabled(after) == ["mcp"]


def test_an_endpoint_on_a_virtual_host_that_is_passed_through(tmp_path: Path) -> None:
    """Its requests are the gateway's, and not to be read first."""
    after = attached(None, hosts=("whole",), config=gateway(**SERVERS), virtual_hosts=("whole",))
    assert_envoy_takes(after, tmp_path)
    [host] = [place for place in places(after) if place.get("name") == "whole"]
    [*ours, theirs] = host["routes"]
    assert {route["typed_per_filter_config"][FILTER].get("disabled") for route in ours} == {True}
    assert "typed_per_filter_config" not in theirs


# -- When it refuses ------------------------------------------------------------------------------------------------------


def test_nothing_is_named() -> None:
    assert "no servers, so there is no endpoint to add: select the routes" in refused()


@pytest.mark.parametrize(
    ("routes", "hosts", "problem"),
    [
        (("nope",), (), "no route 'nope' to pass requests through; it has anywhere, by-header, by-method, mcp, other"),
        (("/nope",), (), "no route of listener 'edge' matches exactly the path or prefix /nope"),
        (("/other/",), (), "there are /, /by-header, /by-method, /other"),
        ((), ("nope",), "no virtual host 'nope'; it has dynamic, tools, whole"),
    ],
)
def test_what_is_named_is_not_there(routes: tuple[str, ...], hosts: tuple[str, ...], problem: str) -> None:
    assert problem in refused(None, *routes, hosts=hosts)


def test_routes_that_come_from_elsewhere() -> None:
    data = existing()
    manager = manager_of(data)
    del manager["route_config"]
    manager["rds"] = {"route_config_name": "r", "config_source": {"ads": {}}}
    assert "not in this file but come by rds" in refused(data, "mcp")


@pytest.mark.parametrize("by_host", [False, True])
@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("request_body_buffer_limit", 65536, "route 'mcp' has request_body_buffer_limit 65536, and the gateway's"),
        ("request_body_buffer_limit", "65536", "limits.request_bytes is 4194304: raise the former or lower the latter"),
        (
            "per_request_buffer_limit_bytes",
            8 << 20,
            "route 'mcp' has per_request_buffer_limit_bytes, which Envoy does not allow together",
        ),
    ],
)
def test_limits_that_do_not_fit(field: str, value: Any, problem: str, by_host: bool) -> None:
    data = existing()
    for place in places(data):
        if place.get("name") == "mcp":
            place[field] = value
    assert problem in (refused(data, hosts=("tools",)) if by_host else refused(data, "mcp"))
    assert enabled(attached(data, "other")) == ["other"]


def test_a_cluster_has_our_name() -> None:
    data = existing()
    data["static_resources"]["clusters"][0]["name"] = "mcp_extproc"
    assert "a cluster 'mcp_extproc' already" in refused(data, "mcp")


# -- What the owner is told -----------------------------------------------------------------------------------------------


def warnings(data: Data, *routes: str, hosts: tuple[str, ...] = ()) -> tuple[str, ...]:
    choice = Choice(pass_through=routes, pass_through_hosts=hosts)
    return attach(json.dumps(data), "envoy.json", gateway(), LAYOUT, choice).warnings


def test_ways_around() -> None:
    data = existing()
    assert any("another spelling" in sentence for sentence in warnings(data, "mcp"))
    manager_of(data).update(SAFE)
    [around] = warnings(data, "mcp")
    assert around.startswith(
        "route 'other' of virtual host 'tools', route 'by-method' of virtual host 'tools', the route for / of virtual host"
        " 'whole': it leads to a cluster of an inspected route"
    )
    assert warnings(data, "anywhere") == ()
    assert warnings(data, hosts=("tools", "whole")) == ()


# -- Those who paste, and those who have no servers -----------------------------------------------------------------------


def test_fragments_are_what_attach_adds() -> None:
    after = attached(None, "other")
    text = fragments(gateway(), LAYOUT)
    parts = yaml.safe_load(text)
    assert list(parts) == [
        "pass_through_http_filters", "pass_through_route", "pass_through_local_reply_mappers", "clusters",
    ]  # fmt: skip
    assert parts["pass_through_http_filters"] == manager_of(after)["http_filters"][:1]
    [route] = [place for place in places(after) if place.get("name") == "other"]
    assert parts["pass_through_route"].items() <= route.items()
    assert parts["pass_through_local_reply_mappers"] == manager_of(after)["local_reply_config"]["mappers"]
    assert parts["clusters"] == after["static_resources"]["clusters"][-1:]
    both = yaml.safe_load(fragments(gateway(**SERVERS), LAYOUT))
    assert {"http_filters", "routes", "listeners", *list(parts)} <= set(both)
    without = GatewayConfig.model_validate(SERVERS)
    assert not any(name.startswith("pass_through") for name in yaml.safe_load(fragments(without, LAYOUT)))


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["envoy", "bootstrap"], ["serve", "--envoy-config", "/nowhere"]]
)
def test_commands_that_need_servers(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("pass_through: {}\n")
    result = CliRunner().invoke(cli, [*command, str(file)])
    assert isinstance(result.exception, ConfigError)
    assert "there are none, only pass_through" in str(result.exception)
    assert CliRunner().invoke(cli, ["validate", str(file)]).output == f"{file}: valid, pass-through only\n"
