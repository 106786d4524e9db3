"""Where agents keep their servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_extproc.config.agents.places import AGENTS, places, switch_places

HOME, FOLDER = Path("/home/me"), Path("/home/me/work/shop")


def of(agent: str, platform: str = "linux", environ: Mapping[str, str] | None = None) -> list[str]:
    """The agent's files, the project's marked, in the order of precedence."""
    found = [place for place in places(HOME, FOLDER, environ or {}, platform) if place.agent == agent]
    return [f"{place.path}{' (project)' if place.project == FOLDER else ''} {place.table}" for place in found]


def test_claude_code() -> None:
    """Its scopes local, project and user, in this order."""
    for platform in ("linux", "darwin"):
        assert of("claude-code", platform, {"XDG_CONFIG_HOME": "/xdg"}) == [
            "/home/me/.claude.json (project) ('projects', '/home/me/work/shop', 'mcpServers')",
            "/home/me/work/shop/.mcp.json (project) ('mcpServers',)",
            "/home/me/.claude.json ('mcpServers',)",
        ]
    moved = of("claude-code", environ={"CLAUDE_CONFIG_DIR": "/elsewhere"})
    assert [line.partition(" ")[0] for line in moved] == [
        "/elsewhere/.claude.json", "/home/me/work/shop/.mcp.json", "/elsewhere/.claude.json",
    ]  # fmt: skip


def test_claude_desktop() -> None:
    name, table = "Claude/claude_desktop_config.json", "('mcpServers',)"
    assert of("claude-desktop") == [f"/home/me/.config/{name} {table}"]
    assert of("claude-desktop", environ={"XDG_CONFIG_HOME": "/xdg"}) == [f"/xdg/{name} {table}"]
    assert of("claude-desktop", environ={"XDG_CONFIG_HOME": "relative"}) == [f"/home/me/.config/{name} {table}"]
    mac = of("claude-desktop", "darwin", {"XDG_CONFIG_HOME": "/xdg"})
    assert mac == [f"/home/me/Library/Application Support/{name} {table}"]


def test_vscode() -> None:
    project = "/home/me/work/shop/.vscode/mcp.json (project) ('servers',)"
    assert of("vscode") == [project, "/home/me/.config/Code/User/mcp.json ('servers',)"]
    assert of("vscode", environ={"XDG_CONFIG_HOME": "/xdg"}) == [project, "/xdg/Code/User/mcp.json ('servers',)"]
    mac = "/home/me/Library/Application Support/Code/User/mcp.json ('servers',)"
    assert of("vscode", "darwin") == [project, mac]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_others(platform: str) -> None:
    assert of("cursor", platform) == [
        "/home/me/work/shop/.cursor/mcp.json (project) ('mcpServers',)",
        "/home/me/.cursor/mcp.json ('mcpServers',)",
    ]
    assert of("windsurf", platform) == ["/home/me/.codeium/windsurf/mcp_config.json ('mcpServers',)"]
    assert of("gemini", platform) == [
        "/home/me/work/shop/.gemini/settings.json (project) ('mcpServers',)",
        "/home/me/.gemini/settings.json ('mcpServers',)",
    ]
    assert of("gemini", platform, {"GEMINI_CLI_HOME": "/g"})[1] == "/g/.gemini/settings.json ('mcpServers',)"


def test_the_projects_come_first() -> None:
    of_project = [place.project is not None for place in places(HOME, FOLDER, {}, "linux")]
    assert of_project == sorted(of_project, reverse=True)
    assert {place.agent for place in places(HOME, FOLDER, {}, "linux")} == set(AGENTS)


def lists_of(agent: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What turns the agent's servers off, that of the project marked."""
    return [
        f"{place.path}{' (project)' if place.project else ''} {'.'.join(place.keys)}: {place.means}"
        + (f" of {place.of}" if place.of else "")
        for place in switch_places(HOME, FOLDER, environ or {})
        if place.agent == agent
    ]


def test_what_claude_codes_user_turns_off() -> None:
    approved = f"off of {FOLDER}/.mcp.json"
    assert lists_of("claude-code") == [
        f"/home/me/.claude.json projects.{FOLDER}.disabledMcpServers: off",
        f"/home/me/.claude.json projects.{FOLDER}.disabledMcpjsonServers: {approved}",
        f"/home/me/.claude/settings.json disabledMcpjsonServers: {approved}",
        f"{FOLDER}/.claude/settings.json (project) disabledMcpjsonServers: {approved}",
        f"{FOLDER}/.claude/settings.local.json (project) disabledMcpjsonServers: {approved}",
    ]
    moved = lists_of("claude-code", {"CLAUDE_CONFIG_DIR": "/elsewhere"})
    assert [line.partition(" ")[0] for line in moved[:3]] == [
        "/elsewhere/.claude.json", "/elsewhere/.claude.json", "/elsewhere/settings.json",
    ]  # fmt: skip


def test_what_gemini_clis_user_turns_off() -> None:
    assert lists_of("gemini", {"GEMINI_CLI_HOME": "/g"}) == [
        "/g/.gemini/mcp-server-enablement.json : states",
        f"{FOLDER}/.gemini/settings.json (project) mcp.excluded: off",
        f"{FOLDER}/.gemini/settings.json (project) mcp.allowed: only",
        "/g/.gemini/settings.json mcp.excluded: off",
        "/g/.gemini/settings.json mcp.allowed: only",
    ]
