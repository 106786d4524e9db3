"""What a bridge that runs by itself reads of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, FileSource, loads, only_commands, without_programs

NATIVE = """
servers:
  time: {command: [uvx, mcp-server-time], env: {KEY: "${KEY}"}, typed_per_filter_config: {another.filter: {}}}
  remote: {url: "${URL}", headers: {Authorization: "Bearer ${TOKEN}"}}
separator: "."
limits: {event_bytes: 1 MiB}
session: {secret: "${SECRET}"}
log: {access: "${ACCESS}", level: debug, format: json}
envoy: {http_filters: "${FILTERS}"}
"""


def test_variables_of_the_rest_need_not_be_set() -> None:
    config = loads(NATIVE, "gateway.yaml", {"KEY": "k"}, part=only_commands).config
    assert list(config.servers) == ["time"]
    key = config.servers["time"].env["KEY"]
    assert key is not None
    assert key.get_secret_value() == "k"
    assert (config.separator, config.limits.event_bytes) == (".", 1 << 20)
    assert (config.log.level, config.log.format) == ("debug", "json")


def test_variables_of_commands_have_to_be() -> None:
    with pytest.raises(ConfigError, match=r"servers\.time\.env\.KEY: the environment variable KEY is not set"):
        loads(NATIVE, "gateway.yaml", {}, part=only_commands)


@pytest.mark.parametrize("table", ["mcpServers", "servers"])
def test_the_files_of_agents(table: str) -> None:
    """That of VS Code has another key."""
    remote = {"type": "http", "url": "https://example.com/mcp", "headers": {"Authorization": "${TOKEN}"}}
    local = {"type": "stdio", "command": "uvx", "args": ["mcp-server-time"]}
    loaded = loads(json.dumps({table: {"r": remote, "l": local}}), "mcp.json", {}, part=only_commands)
    assert (list(loaded.config.servers), loaded.source) == (["l"], "mcp-servers")
    for others in ({"r": remote}, {"r": remote, "l": {**local, "disabled": True}}):
        loaded = loads(json.dumps({table: others}), "mcp.json", {}, part=only_commands)
        assert not loaded.config.servers


@pytest.mark.parametrize(("key", "served"), [("allowed", ["b"]), ("excluded", ["a"])])
def test_lists_of_what_is_on_or_off(key: str, served: list[str]) -> None:
    """Gemini CLI's."""
    servers = {name: {"command": "uvx"} for name in "ab"}
    loaded = loads(json.dumps({"mcpServers": servers, "mcp": {key: ["B "]}}), "settings.json", {}, part=only_commands)
    assert list(loaded.config.servers) == served


def test_none() -> None:
    """Then it has nothing to do until the file changes."""
    for text in (
        "servers: {remote: {url: 'http://a.example/mcp'}}",
        "{pass_through: {}}",
        "servers: {}\nlog: {level: debug}",
    ):
        assert not loads(text, "gateway.yaml", {}, part=only_commands).config.servers


@pytest.mark.parametrize(
    "text",
    [
        "servers: [1]",
        "mcpServers: nonsense",
        "mcpServers: {a: {command: b}}\nmcp: {allowed: b}",
        "[]",
        "servers: {a: {command: ''}}",
        "- {",
    ],
)
def test_what_is_no_configuration(text: str) -> None:
    with pytest.raises(ConfigError):
        loads(text, "gateway.yaml", {}, part=only_commands)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(NATIVE)
    source = FileSource(file, {"KEY": "k"}, part=only_commands)
    assert list(source.load().config.servers) == ["time"]
    assert source.folder == tmp_path


# -- The gateway in front of it ---------------------------------------------------------------------------------------------


def test_variables_of_programs_need_not_be_set_in_front_of_the_bridge() -> None:
    others = {"URL": "http://a.example/mcp", "TOKEN": "t"}
    text = NATIVE.partition("session:")[0].replace(", typed_per_filter_config: {another.filter: {}}", "")
    text = text.replace("uvx,", '"${HOME}/uvx", --key, "${ARGUMENT}",')
    loaded = loads(text, "gateway.yaml", others, part=without_programs)
    assert list(loaded.config.servers) == ["time", "remote"]
    assert loaded.config.servers["time"].is_bridged
    assert loaded.text == text
    with pytest.raises(ConfigError, match="the environment variable TOKEN is not set"):
        loads(text, "gateway.yaml", {"URL": others["URL"]}, part=without_programs)


@pytest.mark.parametrize("table", ["mcpServers", "servers"])
def test_the_files_of_agents_in_front_of_the_bridge(table: str) -> None:
    local = {
        "type": "stdio", "command": "${TOOL}", "args": ["${A}"], "env": {"B": "${B}"}, "envFile": "${C}", "cwd": "${D}",
    }  # fmt: skip
    off = {**local, "disabled": True}
    loaded = loads(json.dumps({table: {"l": local, "off": off}}), "mcp.json", {}, part=without_programs)
    assert (list(loaded.config.servers), loaded.source) == (["l"], "mcp-servers")
    server = loaded.config.servers["l"]
    assert (server.is_bridged, dict(server.env), server.env_file, server.cwd) == (True, {}, None, None)


@pytest.mark.parametrize("text", ["servers: [1]", "mcpServers: nonsense", "servers: {a: 1}", "mcpServers: {a: [b]}"])
def test_what_is_no_configuration_is_none_in_front_of_the_bridge(text: str) -> None:
    with pytest.raises(ConfigError):
        loads(text, "gateway.yaml", {}, part=without_programs)


def test_servers_at_several_endpoints_may_have_one_prefix() -> None:
    text = """
servers:
  a: {command: [x], prefix: p}
  b: {command: [y], prefix: p}
  c: {url: "http://c/", prefix: p}
main_endpoint: false
virtual_servers:
  v: {servers: {a: all}}
  w: {servers: {b: all}}
  x: {servers: {c: all}}
"""
    assert list(loads(text, "gateway.yaml", {}, part=only_commands).config.servers) == ["a", "b"]
