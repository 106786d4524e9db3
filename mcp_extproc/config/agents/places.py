"""Where agents keep their MCP servers, on Linux and macOS. The files are theirs: they are read, and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


def places(home: Path, folder: Path, environ: Mapping[str, str], platform: str) -> list[Place]:
    """Where agents keep servers: those for the project's folder, then those for the user. Of two servers with the same name,
    agents themselves use the one that comes first here.

    Args:
        home: the user's folder.
        folder: the project's, absolute.
        environ: variables that move some of the files.
        platform: as `sys.platform`.
    """
    claude = _moved(home, folder, environ.get("CLAUDE_CONFIG_DIR")) / ".claude.json"
    gemini = _moved(home, folder, environ.get("GEMINI_CLI_HOME"))
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
        Place("gemini", gemini / ".gemini" / "settings.json", usual, None),
    ]


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
