"""Servers of several agents, side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_extproc.config.agents import servers
from mcp_extproc.config.agents.servers import FoundServer, Merged
from mcp_extproc.config.load import loads
from mcp_extproc.config.model import Server
from mcp_extproc.config.uri_words import scheme_word
from tests.unit.config.agents.support import Home

URL = "http://notes.example/mcp"


def merged(home: Home, environ: Mapping[str, str] | None = None) -> Merged:
    source = home.source(environ=environ)
    return source.merged(source.files())


def rows(found: Merged) -> list[tuple[str, str, str, str | None]]:
    return [(server.name, server.place.agent, server.state, server.served_as) for server in found.servers]


def only(found: Merged) -> FoundServer:
    [server] = found.servers
    return server


def test_different_ones_under_one_name(home: Home) -> None:
    """The user's own keep it before a project's: approvals go by name."""
    home.servers("shop/.cursor/mcp.json", notes="http://project.example/mcp")
    home.servers(".gemini/settings.json", notes={"httpUrl": "http://gemini.example/mcp"})
    home.servers(".codeium/windsurf/mcp_config.json", Notes={"serverUrl": URL})
    found = merged(home)
    assert rows(found) == [
        ("notes", "cursor", "served", "notes-cursor"),
        ("Notes", "windsurf", "served", "Notes"),
        ("notes", "gemini", "served", "notes-gemini"),
    ]
    assert list(found.entries) == ["Notes", "notes-gemini", "notes-cursor"]
    why = "windsurf has another one of this name"
    assert [server.warning for server in found.servers] == [
        f"notes (cursor, {home.folder}/.cursor/mcp.json) is served as notes-cursor: {why}",
        None,
        f"notes (gemini, {home.path}/.gemini/settings.json) is served as notes-gemini: {why}",
    ]


def test_the_same_one_is_served_once(home: Home) -> None:
    """Though each agent writes it in its own way."""
    home.write("shop/.vscode/mcp.json", {"servers": {"notes": {"type": "http", "url": URL}}})
    home.servers(".gemini/settings.json", notes={"httpUrl": "${NOTES}", "trust": True})
    home.servers(".codeium/windsurf/mcp_config.json", notes={"serverUrl": URL, "disabled": False})
    found = merged(home, {"NOTES": URL})
    assert rows(found) == [
        ("notes", "vscode", "same", None), ("notes", "windsurf", "served", "notes"), ("notes", "gemini", "same", None),
    ]  # fmt: skip
    assert found.servers[0].about == "the same as that of windsurf"
    assert found.entries == {"notes": {"serverUrl": URL, "disabled": False}}


def test_an_agent_uses_the_nearer_of_its_own(home: Home) -> None:
    home.write(
        "shop/.mcp.json", {"mcpServers": {"notes": {"url": "http://project.example/mcp"}, "off": {"disabled": True}}}
    )
    home.servers(".claude.json", notes=URL, off=URL)
    found = merged(home)
    assert rows(found) == [
        ("notes", "claude-code", "served", "notes"), ("off", "claude-code", "disabled", None),
        ("notes", "claude-code", "hidden", None), ("off", "claude-code", "hidden", None),
    ]  # fmt: skip
    assert found.servers[2].about == f"claude-code uses the one in {home.folder}/.mcp.json"


def test_a_name_that_is_taken_twice(home: Home) -> None:
    home.write(".claude.json", {"mcpServers": {"a": {"url": "http://1/"}, "a-cursor": {"url": "http://2/"}}})
    home.servers("shop/.cursor/mcp.json", a="http://3/", A="http://4/")
    assert [name for *_, name in rows(merged(home))] == ["a-cursor-2", "A-cursor-3", "a", "a-cursor"]


def test_many_that_want_one_name_are_not_compared_with_each_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    equal = Server.__eq__

    def compared(one: Server, other: object) -> bool:
        calls["compared"] += 1
        return equal(one, other)

    def word(prefix: str) -> str:
        calls["words"] += 1
        return scheme_word(prefix)

    monkeypatch.setattr(Server, "__eq__", compared)
    monkeypatch.setattr(servers, "scheme_word", word)
    home.servers(".cursor/mcp.json", **{"a" + "!" * number: f"http://{number}/" for number in range(100)})
    found = merged(home)
    assert list(found.entries) == ["a", "a-cursor", *(f"a-cursor-{number}" for number in range(2, 100))]
    assert calls["compared"] <= 100
    assert calls["words"] <= 1000


def test_names_that_can_not_be_prefixes(home: Home) -> None:
    long = "x" * 60
    home.servers(".claude.json", **{long: "http://0/"})
    home.servers(
        ".cursor/mcp.json", **{"My Server": "http://1/", "a__b": "http://2/", long: "http://3/", "!?": "http://4/"}
    )
    found = merged(home)
    assert [name for *_, name in rows(found)] == ["x" * 48, "My-Server", "a-b", "x" * 41 + "-cursor", None]
    assert found.servers[1].renamed == "names of servers are prefixes of tools' names here"
    assert "rename it in the agent" in str(found.servers[4].warning)


@pytest.mark.parametrize(("entry", "about", "problem"), [
    ({"type": "ws", "url": "http://hush/"}, "has an unknown type", "has an unknown type: expected one of "),
    ({"url": URL, "headers": {"A": "hush ${TOKEN}"}}, "the environment variable TOKEN is not set",
     "headers.A: the environment variable TOKEN is not set: set it, or give a default"),
    ({"url": "${input:hush}"}, "${input:...} is a prompt, and the gateway can't prompt", "url: ${input:...} is a prompt"),
    ({"url": "hush"}, "expected a URL that starts with http:// or https://", "url: expected a URL that starts with http"),
    ({"url": URL, "x": float("nan")}, "NaN is not a JSON number", "NaN"),
    ({"url": URL, "x": "hush" * (1 << 20)}, "is larger than 1 MiB", "is larger"),
    ("hush", "expected an object such as {\"url\": \"https://...\"}", "expected an object"),
])  # fmt: skip
def test_what_is_left_out_says_why(home: Home, entry: Any, about: str, problem: str) -> None:
    """The others are served. Nothing that may be secret is repeated."""
    home.servers(".cursor/mcp.json", fine=URL)
    home.write(".gemini/settings.json", {"mcpServers": {"wrong": entry}})
    found = merged(home)
    assert rows(found) == [("fine", "cursor", "served", "fine"), ("wrong", "gemini", "left_out", None)]
    wrong = found.servers[1]
    assert wrong.about == about
    assert wrong.warning is not None
    assert wrong.warning.startswith(f"wrong (gemini, {home.path}/.gemini/settings.json) is left out: {problem}")
    assert "hush" not in wrong.warning


def test_what_a_server_is(home: Home) -> None:
    home.servers(".cursor/mcp.json", a={"url": "https://h.example/${KEY}?k=${KEY}", "headers": {"A": "${KEY}"}})
    found = merged(home, {"KEY": "hush"})
    assert only(found).about == "HTTP: h.example:443"
    assert "hush" not in repr(found.servers)
    assert found.entries["a"]["headers"] == {"A": "${KEY}"}


def test_what_a_projects_server_runs_and_takes(home: Home) -> None:
    """All that somebody else's file says about it, but for values that may be secret."""
    home.servers(
        "shop/.cursor/mcp.json",
        preload={"command": "npx", "args": ["server"], "env": {"LD_PRELOAD": "./hush.so", "PATH": "./bin:${PATH}"}},
        script={"command": "bash", "args": ["-c", "curl https://h.example/x | sh"], "envFile": ".env", "cwd": "sub"},
        long={"command": "x", "args": [*["word"] * 50, "last"]},
        sent={"url": "https://h.example/${A}", "headers": {"X-Key": "${AWS_SECRET} ${B:-hush}", "X-Fix": "hush"}},
    )
    found = merged(home, {"PATH": "hush", "A": "hush", "AWS_SECRET": "hush"})
    assert [server.about for server in found.servers] == [
        "stdio: npx server; env: LD_PRELOAD, PATH; variables: PATH",
        'stdio: bash -c "curl https://h.example/x | sh"; envFile: .env; cwd: sub',
        f"stdio: x {'word ' * 50}last",
        "HTTP: h.example:443; headers: X-Key, X-Fix; variables: A, AWS_SECRET, B",
    ]


def test_any_names_together_are_a_configuration(home: Home) -> None:
    names = ["a", "A", "a.b", "a-b", "a_b", "7", "s-7", "x" * 48, "x" * 47 + "y", "a b", "ä", "a__b", "notes-cursor"]
    for number, file in enumerate((".cursor/mcp.json", ".gemini/settings.json", ".claude.json")):
        home.servers(file, **{name: f"http://{number}/{index}" for index, name in enumerate(names)})
    found = merged(home)
    text = json.dumps({"mcpServers": found.entries})
    assert list(loads(text, "merged", {}).config.servers) == list(found.entries)
    assert len(found.entries) == 3 * (len(names) - 1), "all but that which has no usable character"


def test_commands_of_a_project_start_in_its_folder(home: Home) -> None:
    """As the agents start them. Those of the user's own files start beside them."""
    entries = {
        "here": {"command": "x"},
        "below": {"command": "x", "cwd": "sub", "envFile": ".env"},
        "there": {"url": URL},
    }
    for file, folder in (("shop/.cursor/mcp.json", home.folder), (".cursor/mcp.json", home.path / ".cursor")):
        written = home.servers(file, **entries)
        assert merged(home).entries == {
            "here": {"command": "x", "cwd": str(folder)},
            "below": {"command": "x", "cwd": f"{folder}/sub", "envFile": f"{folder}/.env"},
            "there": {"url": URL},
        }
        written.unlink()


@pytest.mark.parametrize("entry", [
    {"command": "./server.sh"}, {"command": "bin/server"}, {"command": "node", "args": ["./server.js"]},
    {"command": "x", "cwd": "sub"}, {"command": "x", "envFile": ".env"},
], ids=str)  # fmt: skip
def test_what_begins_in_its_folder_is_another_one_elsewhere(home: Home, entry: Any) -> None:
    home.servers("shop/.cursor/mcp.json", a=entry)
    home.servers(".gemini/settings.json", a=entry)
    found = merged(home)
    assert rows(found) == [("a", "cursor", "served", "a-cursor"), ("a", "gemini", "served", "a")]
    assert found.entries["a"]["cwd"] != found.entries["a-cursor"]["cwd"]


@pytest.mark.parametrize("entry", [
    {"command": "npx", "args": ["-y", "@scope/server"]}, {"command": "/opt/server", "args": ["/data"]},
    {"command": "./server.sh", "cwd": "/srv", "envFile": "/srv/.env"},
], ids=str)  # fmt: skip
def test_a_command_that_is_the_same_from_any_folder_is_served_once(home: Home, entry: Any) -> None:
    home.servers("shop/.cursor/mcp.json", a=entry)
    home.servers(".gemini/settings.json", a=entry)
    assert rows(merged(home)) == [("a", "cursor", "same", None), ("a", "gemini", "served", "a")]


def test_a_folder_that_a_variable_names(home: Home) -> None:
    """Whether it is absolute shows once the variable is replaced. The workers are told of the variable."""
    environ = {"ROOT": "/srv", "PART": "sub"}
    written = {"command": "x", "cwd": "${ROOT}/work", "envFile": "${PART}/.env"}
    home.servers("shop/.cursor/mcp.json", a=written)
    found = merged(home, environ)
    assert found.entries["a"] == {**written, "envFile": f"{home.folder}/${{PART}}/.env"}
    server = loads(json.dumps({"mcpServers": found.entries}), "merged", environ).config.servers["a"]
    assert (server.cwd, server.env_file) == ("/srv/work", f"{home.folder}/sub/.env")


def states(found: Merged) -> dict[str, str]:
    return {server.name: server.state for server in found.servers}


def test_what_claude_codes_user_turned_off_is_off(home: Home) -> None:
    """By name in this folder, and of the project's own servers in any file of settings."""
    home.write("shop/.mcp.json", {"mcpServers": {name: {"url": URL + name} for name in ("a", "b", "c", "d", "user")}})
    here = {"disabledMcpServers": ["user", "a"], "disabledMcpjsonServers": ["b"], "enabledMcpjsonServers": ["b"]}
    projects = {str(home.folder): here, "/other": {"disabledMcpServers": ["d"]}}
    entries = {name: {"url": URL + "/" + name} for name in ("user", "mine")}
    home.write(".claude.json", {"projects": projects, "mcpServers": entries})
    home.write("shop/.claude/settings.local.json", {"disabledMcpjsonServers": ["c", "mine"]})
    found = merged(home)
    assert states(found) == {
        "a": "disabled", "b": "disabled", "c": "disabled", "d": "served", "user": "hidden", "mine": "served",
    }  # fmt: skip
    assert found.servers[2].warning == (
        f"c (claude-code, {home.folder}/.mcp.json): disabled by disabledMcpjsonServers in "
        f"{home.folder}/.claude/settings.local.json, so it is left out"
    )


def test_what_gemini_clis_user_turned_off_is_off(home: Home) -> None:
    """Every list counts: of the project and of the user."""
    names = ("a", "b", "c", "d", "E")
    home.write(
        ".gemini/settings.json",
        {
            "mcp": {"excluded": ["a"], "allowed": ["a", "b", "c", "e"]},
            "mcpServers": {name: {"url": URL + name} for name in names},
        },
    )
    home.write("shop/.gemini/settings.json", {"mcp": {"excluded": ["b"]}})
    home.write(".gemini/mcp-server-enablement.json", {"c": {"enabled": False}, "e": {"enabled": True}})
    home.servers(".cursor/mcp.json", a="http://cursor.example/mcp")
    assert [(server.name, server.place.agent, server.state) for server in merged(home).servers] == [
        ("a", "cursor", "served"), ("a", "gemini", "disabled"), ("b", "gemini", "disabled"), ("c", "gemini", "disabled"),
        ("d", "gemini", "disabled"), ("E", "gemini", "served"),
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["{", '{"mcp": {"excluded": "a"}}'])
def test_a_list_that_can_not_be_read_may_turn_anything_off(home: Home, content: str) -> None:
    home.servers(".gemini/settings.json", a=URL)
    home.servers(".cursor/mcp.json", b="http://b.example/mcp")
    file = home.write("shop/.gemini/settings.json", content)
    found = merged(home)
    assert states(found) == {"a": "left_out", "b": "served"}
    assert f"{file} says whether it is on, and can't be read" in str(found.servers[1].warning)


def test_each_agents_way_of_writing(home: Home) -> None:
    """What comes out is mcp-servers.json: the workers read nothing else."""
    home.servers(".gemini/settings.json", g={"httpUrl": URL, "headers": {"A": "$KEY"}, "timeout": 500})
    home.servers("shop/.cursor/mcp.json", c={"command": "${workspaceFolder}/x", "args": ["$KEY"], "envFile": ".env"})
    home.write("shop/.mcp.json", {"mcpServers": {"k": {"url": URL + "/k", "headers": {"A": "$KEY"}, "timeout": 500}}})
    found = merged(home, {"KEY": "hush"})
    assert found.entries == {
        "k": {"url": URL + "/k", "headers": {"A": "$KEY"}, "timeout": None},
        "c": {
            "command": f"{home.folder}/x",
            "args": ["$KEY"],
            "envFile": f"{home.folder}/.env",
            "cwd": str(home.folder),
        },
        "g": {"httpUrl": URL, "headers": {"A": "${KEY}"}, "timeout": "500ms"},
    }
    assert states(merged(home)) == {"k": "served", "c": "served", "g": "left_out"}, "without the variable"


def test_commands_are_told_apart(home: Home) -> None:
    memory = {"command": "npx", "args": ["-y", "@scope/server-memory", "--token", "hush", "${KEY:-hush}"]}
    home.servers(".cursor/mcp.json", memory=memory, files={"command": "npx", "args": ["-y", "server-files", "/data"]})
    assert [server.about for server in merged(home, {"KEY": "hush"}).servers] == [
        "stdio: npx -y @scope/server-memory --token [redacted] ${KEY}", "stdio: npx -y server-files /data",
    ]  # fmt: skip
