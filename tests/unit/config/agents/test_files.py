"""Reading the files of agents."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config.agents import files
from mcp_extproc.config.text_file import text_in
from tests.unit.config.agents.support import Home

A = {"a": {"url": "http://a/mcp"}}


def test_each_table_is_found_among_other_things(home: Home) -> None:
    projects = {"/other": {"mcpServers": {"no": {}}}, str(home.folder): {"history": [1], "mcpServers": {"local": {}}}}
    home.write(".claude.json", {"oauthAccount": {"token": "hush"}, "projects": projects, "mcpServers": {"user": {}}})
    home.write("shop/.mcp.json", {"mcpServers": {"project": {}}})
    home.write("shop/.vscode/mcp.json", {"inputs": [], "servers": {"code": {}}})
    home.write(".gemini/settings.json", '{"theme": "x", // so\n "mcpServers": {"gem": {},},}')
    home.write(".codeium/windsurf/mcp_config.json", "\ufeff" + json.dumps({"mcpServers": {"surf": {}}}))
    assert [(file.place.agent, list(file.entries)) for file in home.files()] == [
        ("claude-code", ["local"]), ("claude-code", ["project"]), ("vscode", ["code"]), ("claude-code", ["user"]),
        ("windsurf", ["surf"]), ("gemini", ["gem"]),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [
    {}, {"mcpServers": {}}, {"mcpServers": None}, [], "", " \n", {"servers": A}, {"projects": []},
])  # fmt: skip
def test_a_file_without_servers_is_none(home: Home, content: Any) -> None:
    home.write(".cursor/mcp.json", content)
    home.write(".claude.json", content)
    assert home.files() == []


def test_the_last_of_two_equal_keys_counts(home: Home) -> None:
    """As in the agents; what stands beside the table has nothing to do with us."""
    home.write(".cursor/mcp.json", '{"x": 1, "x": 2, "mcpServers": {"a": {"url": "1"}, "a": {"url": "2"}}}')
    [file] = home.files()
    assert file.entries == {"a": {"url": "2"}}


@pytest.mark.parametrize(("content", "problem"), [
    ('{"token": "hush"', "line 1, column 17: not JSON: expecting ',' delimiter"),
    ('{"mcpServers": ["hush"]}', "mcpServers: expected an object of servers"),
    ('{"mcpServers": ' + '{"hush":' * 100_000, "nested more than 50 levels deep"),
    (f'{{"hush": {"9" * 5000}}}', "a number has too many digits"),
])  # fmt: skip
def test_one_that_is_broken_is_named_and_nothing_of_it_repeated(home: Home, content: str, problem: str) -> None:
    home.write(".cursor/mcp.json", content)
    home.servers(".gemini/settings.json", a="http://a/mcp")
    broken, fine = home.files()
    assert (broken.problem, dict(broken.entries)) == (problem, {})
    assert (fine.problem, dict(fine.entries)) == (None, A)


def test_one_that_can_not_be_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.path / ".cursor").mkdir()
    os.mkfifo(home.path / ".cursor" / "mcp.json")  # nobody ever writes to it
    (home.path / ".gemini" / "settings.json").mkdir(parents=True)
    (home.path / ".claude.json").symlink_to(".claude.json")
    home.write(".codeium/windsurf/mcp_config.json", "x" * 101)
    (home.folder / ".vscode").mkdir()
    (home.folder / ".vscode" / "mcp.json").write_bytes(b"\n\xff")
    home.write("shop/.cursor", "in the way")
    monkeypatch.setattr(files, "FILE_BYTES", 100)
    assert {file.place.agent: file.problem for file in home.files()} == {
        "cursor": "is not a file",
        "gemini": "is not a file",
        "claude-code": "can't be read: Too many levels of symbolic links",
        "windsurf": "is larger than 0 MiB",
        "vscode": "line 2: is not UTF-8: save the file in this encoding",
    }


def test_one_without_permission(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write(".cursor/mcp.json", "{}")
    stat = Path.stat

    def refused(path: Path, **options: Any) -> os.stat_result:
        if path.name == "mcp.json":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    def closed(path: str, *_: Any) -> None:
        raise PermissionError(13, f"Permission denied: {path}")

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(os, "open", closed)
    assert {file.problem for file in home.files("cursor")} == {
        "permission denied: change the file's permissions or its owner"
    }


def test_too_many_servers(home: Home) -> None:
    home.servers(".cursor/mcp.json", **{f"s{number}": "http://a/mcp" for number in range(files.MAX_SERVERS + 1)})
    [file] = home.files()
    assert file.problem == "mcpServers: there are more than 1000 servers"


def test_the_same_file_in_two_ways_counts_once(home: Home) -> None:
    """Also where the project's folder is the user's."""
    home.servers(".cursor/mcp.json", a="http://a/mcp")
    (home.folder / ".cursor").symlink_to(home.path / ".cursor")
    [file] = home.files()
    assert file.place.path == home.folder / ".cursor" / "mcp.json"


def test_entries_are_not_printed(home: Home) -> None:
    home.servers(".cursor/mcp.json", a={"url": "http://a/mcp", "headers": {"Authorization": "hush"}})
    assert "hush" not in repr(home.files())


def test_each_file_is_read_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claude Code's is large, and has servers for the user, for the project, and lists of what is off."""
    home.write(
        ".claude.json", {"projects": {str(home.folder): {"mcpServers": A, "disabledMcpServers": []}}, "mcpServers": A}
    )
    home.write(".gemini/settings.json", {"mcpServers": A, "mcp": {"allowed": ["a"], "excluded": []}})
    read: list[Path] = []

    def counted(path: Path, max_bytes: int) -> str:
        read.append(path)
        return text_in(path, max_bytes)

    monkeypatch.setattr(files, "text_in", counted)
    source = home.source()
    assert read == [home.path / ".claude.json"], "the project's"
    found = source.files()
    assert sorted(read[1:]) == [home.path / ".claude.json", home.path / ".gemini" / "settings.json"]
    assert len(found.files) == 3
    assert [switch.named is not None for switch in found.switches] == [True, True, True]
