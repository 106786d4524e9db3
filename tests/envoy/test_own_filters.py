"""Configurations for Envoy's own filters: what is in them, that Envoy accepts them, and what is named as lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.writing import Written, written
from mcp_extproc.envoy.own_filters import ALWAYS, NotForEnvoyAlone, OwnFilters, own_filters
from mcp_extproc.run.envoy_binary import find_envoy

SECRET = "hunter2-0123456789"
NOTES = {"url": "http://127.0.0.1:3001/mcp"}
GITHUB = {
    "url": "https://api.example.com/mcp?team=a",
    "headers": {"Authorization": f"Bearer {SECRET}", "x-team": "team-a"},
    "tls": {"insecure_skip_verify": True},
    "timeout": "30s",
    "health_check": {},
    "outlier_detection": {},
}


def converted(**data: Any) -> OwnFilters:
    config = GatewayConfig.model_validate({"servers": {"notes": NOTES, "github": GITHUB}, **data})
    return own_filters(config, written(config, {}))


def manager_of(found: OwnFilters) -> dict[str, Any]:
    [listener] = found.bootstrap["staticResources"]["listeners"]
    manager: dict[str, Any] = listener["filterChains"][0]["filters"][0]["typedConfig"]
    return manager


def own(found: OwnFilters) -> list[str]:
    """Losses besides those of every configuration."""
    return [loss for loss in found.losses if loss not in ALWAYS]


def test_servers_and_names() -> None:
    mcp, router = (one["typedConfig"] for one in manager_of(converted())["httpFilters"])
    assert (mcp["trafficMode"], mcp["maxRequestBodySize"]) == ("REJECT_NO_MCP", 4 << 20)
    assert [(one["name"], one["mcpCluster"]) for one in router["servers"]] == [
        (
            "notes",
            {"cluster": "notes", "path": "/mcp", "timeout": "300s", "hostRewriteLiteral": "127.0.0.1:3001"},
        ),
        (
            "github",
            {
                "cluster": "github",
                "path": "/mcp?team=a",
                "timeout": "30s",
                "hostRewriteLiteral": "api.example.com",
            },
        ),
    ]


def test_hosts_are_checked_by_envoy() -> None:
    [host] = manager_of(converted(listen={"allowed_hosts": ["gw.example"]}))["routeConfig"]["virtualHosts"]
    assert host["domains"] == ["localhost", "127.0.0.1", "[::1]", "gw.example"]
    [host] = manager_of(converted(listen={"address": "0.0.0.0"}))["routeConfig"]["virtualHosts"]
    assert host["domains"] == ["*"]


def test_credentials_are_in_envoys_environment() -> None:
    text = json.dumps(converted().bootstrap)
    assert SECRET not in text
    assert "Bearer %ENVIRONMENT(GITHUB_AUTHORIZATION)%" in text
    assert '"value": "team-a"' in text


@pytest.mark.parametrize(
    ("data", "losses"),
    [
        ({}, []),
        ({"bare_names": True, "log": {"level": "debug"}}, ["bare_names: has no effect", "log: has no effect"]),
        ({"origins": ["https://a.example"]}, ["origins: has no effect"]),
        ({"servers": {"a": {**NOTES, "retries": {}}, "b": NOTES}}, ["servers.a.retries: has no effect"]),
        (
            {"servers": {"a": NOTES, "b": {"command": ["x"]}}},
            [
                "servers.b: a command: Envoy starts none",
                "servers.a: its tools begin with their own names, not with a__",
            ],
        ),
        (
            {
                "servers": {
                    "a": {**NOTES, "prefix": "x"},
                    "b": {**NOTES, "separator": "."},
                    "c": {**NOTES, "prefix": ""},
                }
            },
            [
                "servers.b: its tools begin with b__, not with b.",
                "servers.c: its tools begin with c__, not with their own names",
            ],
        ),
        (
            {"servers": {"a": {**NOTES, "prefix": ""}, "b": {"url": f"http://b/mcp?api_key={SECRET}"}}},
            ["servers.b: its URL has a credential, which would stand in Envoy's configuration"],
        ),
        ({"virtual_servers": {"v": {"servers": {"notes": "all"}}}}, ["virtual_servers: has no effect"]),
        (
            {"servers": {"a": {**NOTES, "credentials": {"query": {"name": "k", "value": SECRET}}}, "b": NOTES}},
            ["servers.a.credentials: the server is asked without them"],
        ),
    ],
)
def test_losses(data: dict[str, Any], losses: list[str]) -> None:
    assert own(converted(**data)) == losses


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            {"authentication": {"api_keys": {"file": "keys.yaml", "from": [{"header": "x-key"}]}}},
            "authentication: only",
        ),
        ({"authorization": {"rules": [{"action": "allow"}]}}, "authorization: only"),
        ({"vetting": [{"tools": ["x"]}]}, "vetting: only"),
        ({"rate_limits": [{"requests": 1, "per": "minute"}]}, "rate_limits: only"),
        ({"listen": {"tls": {"certificate": "c.pem", "key": "k.pem"}}}, "listen.tls: put it into the listener"),
        ({"servers": {"a": {**NOTES, "tools": {"exclude": ["x"]}}}}, "servers.a.tools: clients could call all tools"),
        ({"servers": {"a": {"command": ["x"]}}}, "none of the servers can be behind mcp_router"),
        (
            {"main_endpoint": False, "virtual_servers": {"v": {"servers": {"notes": "all"}}}},
            "main_endpoint: there is one endpoint, with all servers",
        ),
    ],
)
def test_what_restricts_callers_is_not_left_out(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotForEnvoyAlone) as caught:
        converted(**data)
    assert [text for text in caught.value.reasons if text.startswith(reason)]


def test_envoy_accepts_it(tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    found = converted(listen={"port": 0})
    file.write_text(Written(found.bootstrap, {}).text(found.losses))
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"GITHUB_AUTHORIZATION": SECRET},
    )
    assert done.returncode == 0, done.stderr
