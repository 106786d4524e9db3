"""A configuration without servers, for pass-through only."""

from __future__ import annotations

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from mcp_extproc.config import ConfigError, GatewayConfig, loads
from mcp_extproc.config.schema import json_schema


def config(text: str) -> GatewayConfig:
    return loads(text, "gateway.yaml", {}).config


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("pass_through: {}", "reject_no_mcp"),
        ("pass_through: {traffic_mode: pass_through}\nservers: {}", "pass_through"),
        ("pass_through: {traffic_mode: reject_no_mcp}\nlimits: {request_bytes: 1MiB}", "reject_no_mcp"),
        ("servers: {a: {url: http://a/mcp}}", "reject_no_mcp"),
        ("servers: {a: {url: http://a/mcp}}\npass_through: {traffic_mode: pass_through}", "pass_through"),
    ],
)
def test_valid(text: str, mode: str) -> None:
    found = config(text)
    assert found.pass_through.traffic_mode == mode
    assert list(found.servers) == (["a"] if "{a:" in text else [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: {}", "servers: required, but missing"),
        ("servers: {}", "servers: name at least one server"),
        ("pass_through:", "pass_through: expected a mapping (key: value)"),
        (
            "pass_through: {traffic_mode: allow}",
            "pass_through.traffic_mode: expected 'reject_no_mcp' or 'pass_through'",
        ),
        ("pass_through: {mode: pass_through}", "pass_through.mode: unknown key"),
        ("pass_through: {}\\nservers: [a]", "servers: expected a mapping (key: value)"),
    ],
)
def test_not_valid(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(text.replace("\\n", "\n"))
    assert problem in str(caught.value)


@pytest.mark.parametrize("text", ["pass_through: {}", "servers: {a: {url: http://a/mcp}}"])
def test_editors_accept_it(text: str) -> None:
    jsonschema.validate(yaml.safe_load(text), json_schema())


def test_editors_want_one_of_them() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"listen": {}}, json_schema())


def test_what_needs_servers_says_so() -> None:
    loads("servers: {a: {url: http://a/mcp}}", "f.yaml", {}).require_servers()
    with pytest.raises(ConfigError, match=r"f\.yaml: servers: there are none, only pass_through"):
        loads("pass_through: {}", "f.yaml", {}).require_servers()
