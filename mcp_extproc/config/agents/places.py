"""Where agents keep their MCP servers, on Linux and macOS. The files are theirs: they are read, and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

AGENTS: Final = ("claude-code", "claude-desktop", "vscode", "cursor", "windsurf", "gemini")
"""The agents, by the names that ``run --from`` takes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A table of servers in a file, either of which need not exist."""

    agent: str
    """One of :data:`AGENTS`."""
    path: Path
    table: tuple[str, ...]
    """Keys of the table in the file, from the outermost."""
    project: Path | None
    """The folder of the project that it is for. ``None``: it is for all that the user does."""


@dataclass(frozen=True, slots=True)
class SwitchPlace:
    """A list in a file, by which an agent's servers are turned on or off. Neither need exist."""

    agent: str
    """One of :data:`AGENTS`."""
    path: Path
    keys: tuple[str, ...]
    """Of the list in the file, from the outermost; none where the whole file is the list."""
    project: Path | None
    """As in :class:`Place`: the folder whose file it is."""
    means: Literal["off", "only", "states"]
    """``off`` names servers that are off, ``only`` the only ones that are on. ``states`` maps names to objects with
    ``enabled``."""
    of: Path | None = None
    """The file whose servers it is about; ``None`` for all of the agent's."""


def switch_places(home: Path, folder: Path, environ: Mapping[str, str]) -> list[SwitchPlace]:
    """Where agents keep which servers are on. The arguments are those of :func:`places`.

    Sources: Claude Code's documentation ("Connect Claude Code to tools via MCP", "Settings"); Gemini CLI's documentation ("MCP
    servers") and source (``packages/cli/src/config/mcp/mcpServerEnablement.ts``). Approvals (``enabledMcpjsonServers``) are
    none: whoever chooses an agent here approves.
    """
    moved = environ.get("CLAUDE_CONFIG_DIR")
    claude, settings = _claude(home, folder, environ), folder / moved if moved else home / ".claude"
    gemini = _gemini(home, folder, environ)
    here, rejected = ("projects", str(folder)), "disabledMcpjsonServers"
    approved = folder / ".mcp.json"
    return [
        SwitchPlace("claude-code", claude, (*here, "disabledMcpServers"), None, "off"),
        SwitchPlace("claude-code", claude, (*here, rejected), None, "off", approved),
        SwitchPlace("claude-code", settings / "settings.json", (rejected,), None, "off", approved),
        SwitchPlace("claude-code", folder / ".claude" / "settings.json", (rejected,), folder, "off", approved),
        SwitchPlace("claude-code", folder / ".claude" / "settings.local.json", (rejected,), folder, "off", approved),
        SwitchPlace("gemini", gemini / "mcp-server-enablement.json", (), None, "states"),
        *(
            SwitchPlace("gemini", path / "settings.json", ("mcp", key), project, means)
            for path, project in ((folder / ".gemini", folder), (gemini, None))
            for key, means in _GEMINIS.items()
        ),
    ]


_GEMINIS: Final[Mapping[str, Literal["off", "only"]]] = {"excluded": "off", "allowed": "only"}


def places(home: Path, folder: Path, environ: Mapping[str, str], platform: str) -> list[Place]:
    """Where agents keep servers: those for the project's folder, then those for the user. Of two servers with the same name,
    agents themselves use the one that comes first here.

    Args:
        home: the user's folder.
        folder: the project's, absolute.
        environ: variables that move some of the files.
        platform: as `sys.platform`.
    """
    claude, gemini = _claude(home, folder, environ), _gemini(home, folder, environ)
    config = _config(home, environ, platform)
    usual, vscode = ("mcpServers",), ("servers",)
    return [
        Place("claude-code", claude, ("projects", str(folder), *usual), folder),
        Place("claude-code", folder / ".mcp.json", usual, folder),
        Place("vscode", folder / ".vscode" / "mcp.json", vscode, folder),
        Place("cursor", folder / ".cursor" / "mcp.json", usual, folder),
        Place("gemini", folder / ".gemini" / "settings.json", usual, folder),
        Place("claude-code", claude, usual, None),
        Place("claude-desktop", config / "Claude" / "claude_desktop_config.json", usual, None),
        Place("vscode", config / "Code" / "User" / "mcp.json", vscode, None),
        Place("cursor", home / ".cursor" / "mcp.json", usual, None),
        Place("windsurf", home / ".codeium" / "windsurf" / "mcp_config.json", usual, None),
        Place("gemini", gemini / "settings.json", usual, None),
    ]


def _claude(home: Path, folder: Path, environ: Mapping[str, str]) -> Path:
    return _moved(home, folder, environ.get("CLAUDE_CONFIG_DIR")) / ".claude.json"


def _gemini(home: Path, folder: Path, environ: Mapping[str, str]) -> Path:
    return _moved(home, folder, environ.get("GEMINI_CLI_HOME")) / ".gemini"


def _moved(home: Path, folder: Path, variable: str | None) -> Path:
    """The user's folder, or the one that a variable of an agent's names instead."""
    return folder / variable if variable else home


def _config(home: Path, environ: Mapping[str, str], platform: str) -> Path:
    """Where desktop programs (Electron's, as these are) keep their settings."""
    if platform == "darwin":
        return home / "Library" / "Application Support"
    # A relative path is invalid there, and ignored (XDG Base Directory Specification).
    given = Path(environ.get("XDG_CONFIG_HOME", ""))
    return given if given.is_absolute() else home / ".config"
