"""A configuration that several files make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, loads
from mcp_extproc.config.agents import files
from mcp_extproc.config.text_file import text_in
from tests.unit.config.agents.support import Home

URL = "http://a.example/mcp"


def test_what_the_workers_are_told(home: Home) -> None:
    """The servers that were chosen, with their variables; and nothing else of the files."""
    home.write(".cursor/mcp.json", {"hush": 1, "mcpServers": {"a": {"url": URL, "headers": {"A": "${KEY}"}}}})
    home.servers(".gemini/settings.json", b=URL)
    loaded = home.source("cursor", environ={"KEY": "hush"}).load()
    assert json.loads(loaded.text) == {"mcpServers": {"a": {"url": URL, "headers": {"A": "${KEY}"}}}}
    assert (loaded.name, loaded.source) == ("the servers of cursor", "mcp-servers")
    assert loads(loaded.text, loaded.name, {"KEY": "hush"}).config == loaded.config
    assert list(home.source(environ={"KEY": ""}).load().config.servers) == ["a", "b"]


def test_what_is_left_out_is_a_warning(home: Home) -> None:
    home.servers(".cursor/mcp.json", a=URL, old={"type": "sse"}, off={"disabled": True, "url": URL})
    home.write(".gemini/settings.json", "{")
    warnings = home.source().load().warnings
    assert [warning.partition(" (")[0] for warning in warnings] == [f"{home.path}/.gemini/settings.json", "old", "off"]


@pytest.mark.parametrize("entry", [{"type": "sse"}, {"url": "${MISSING}"}])
def test_strict(home: Home, entry: dict[str, str]) -> None:
    home.servers(".cursor/mcp.json", a=URL, wrong=entry)
    assert list(home.source().load().config.servers) == ["a"]
    with pytest.raises(ConfigError, match=r"the servers of cursor: wrong \(cursor, .*mcp\.json\) is left out: "):
        home.source(strict=True).load()
    home.servers(".cursor/mcp.json", a=URL, off={"disabled": True, "url": URL})
    assert list(home.source(strict=True).load().config.servers) == ["a"]
    home.write(".gemini/settings.json", "{")
    with pytest.raises(ConfigError, match=r"settings\.json: line 1"):
        home.source(strict=True).load()


def test_nothing_to_serve(home: Home) -> None:
    with pytest.raises(ConfigError, match="the agents' servers: there is none to serve"):
        home.source().load()
    home.servers(".cursor/mcp.json", old={"type": "sse"})
    with pytest.raises(ConfigError, match=r"the servers of cursor: old .* is left out"):
        home.source().load()


def test_a_file_that_is_being_written_takes_no_servers_away(home: Home) -> None:
    home.servers(".cursor/mcp.json", a=URL)
    home.write(".gemini/settings.json", "{")
    source = home.source()
    source.load()
    home.write(".cursor/mcp.json", '{"mcpServers": {"a"')
    with pytest.raises(ConfigError, match=r"cursor/mcp\.json: line 1"):
        source.load()
    home.servers(".cursor/mcp.json", b=URL)
    assert list(source.load().config.servers) == ["b"]


def test_what_comes_into_the_project_later_is_nobodys_choice(home: Home) -> None:
    """A checkout may bring a file, or another command in one, which would be run at once."""
    home.servers("shop/.cursor/mcp.json", a=URL)
    home.servers(".claude.json", u=URL)
    source = home.source()
    assert [file.place.agent for file in source.files().files] == ["cursor", "claude-code"]
    chosen = source.only(["cursor", "claude-code"])
    before = chosen.signature()
    home.servers("shop/.cursor/mcp.json", a={"command": "evil"})
    home.write("shop/.mcp.json", {"mcpServers": {"b": {"command": "evil"}}})
    assert chosen.signature() == before
    assert {name: server.url for name, server in chosen.load().config.servers.items()} == {"a": URL, "u": URL}
    home.servers(".claude.json", u=URL, v=URL)
    assert chosen.signature() != before
    assert sorted(chosen.load().config.servers) == ["a", "u", "v"]
    assert home.source().load().config.servers["b"].command is not None


def test_any_file_of_the_user_is_watched(home: Home) -> None:
    source = home.source("cursor", "gemini")
    seen = [source.signature()]
    for file in (".cursor/mcp.json", ".gemini/settings.json"):
        home.servers(file, a=URL)
        seen.append(source.signature())
    assert len(set(seen)) == 3
    home.servers(".codeium/windsurf/mcp_config.json", a=URL)
    assert source.signature() == seen[-1]
    assert source.folder == home.folder


def test_what_is_frozen_is_not_read_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.servers("shop/.cursor/mcp.json", a=URL)
    home.servers(".claude.json", u=URL)
    chosen = home.source().only(["cursor", "claude-code"])
    read: list[Path] = []

    def counted(path: Path, max_bytes: int) -> str:
        read.append(path)
        return text_in(path, max_bytes)

    monkeypatch.setattr(files, "text_in", counted)
    for _ in range(2):
        assert sorted(chosen.load().config.servers) == ["a", "u"]
    assert read == [home.path / ".claude.json"] * 2


def test_what_turns_a_server_off_is_followed(home: Home) -> None:
    """A project's list is as it was chosen, as a checkout could turn a server on; a broken one turns nothing on either."""
    home.write("shop/.mcp.json", {"mcpServers": {"p": {"url": URL + "/p"}}})
    off = home.write("shop/.claude/settings.json", {"disabledMcpjsonServers": ["p"]})
    home.servers(".gemini/settings.json", a=URL, b=URL + "/b")
    source = home.source()
    assert list(source.load().config.servers) == ["a", "b"]
    before = source.signature()
    off.write_text("{}")
    assert source.signature() == before
    assert list(source.load().config.servers) == ["a", "b"]
    states = home.write(".gemini/mcp-server-enablement.json", {"a": {"enabled": False}})
    assert source.signature() != before
    assert list(source.load().config.servers) == ["b"]
    states.write_text("{")
    with pytest.raises(ConfigError, match=r"mcp-server-enablement\.json: line 1"):
        source.load()


def test_a_server_that_can_not_be_served_any_more_is_named(home: Home) -> None:
    home.servers(".cursor/mcp.json", a=URL, b=URL + "/b")
    source = home.source("cursor")
    assert list(source.load().config.servers) == ["a", "b"]
    home.servers(".cursor/mcp.json", a={"url": URL, "headers": {"A": "${GONE}"}}, b=URL + "/b")
    loaded = source.load()
    assert list(loaded.config.servers) == ["b"]
    assert "a (cursor, " in loaded.warnings[0]
    assert "is left out: headers.A: the environment variable GONE is not set" in loaded.warnings[0]
