"""What single agents mean where mcp-servers.json means something else, written in the way of mcp-servers.json.

Sources: the documentation of Cursor ("Config interpolation"), VS Code ("MCP configuration reference", "Variables reference"),
Claude Code ("Connect Claude Code to tools via MCP") and Gemini CLI ("MCP servers"), and the source of Gemini CLI
(``packages/cli/src/utils/envVarResolver.ts``) and of VS Code (``src/vs/workbench/api/node/extHostMcpNode.ts``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from mcp_extproc.config.server_entry import KEYS

_BARE: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_CONVENTIONAL: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_TILDE: Final = re.compile(r"~(?=/|$)")
_PATHS: Final = frozenset({"command", "args", "cwd"})
"""Keys in which VS Code knows ``~``."""
_PLACEHOLDER: Final = re.compile(r"\$\{([A-Za-z]+|/)\}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an agent writes entries."""

    placeholders: Mapping[str, str] = field(default_factory=dict)
    """What stands for ``${NAME}`` where the agent knows it by itself."""
    tilde: str | None = None
    """What stands for a ``~`` at the start of a path, in keys of :data:`_PATHS`; ``None`` where the agent leaves it."""
    bare_variables: bool = False
    """Whether ``$NAME`` is a variable, like ``${NAME}``."""
    timeout: Literal["any", "milliseconds", "milliseconds_from_1000"] = "any"
    """The unit of a number. ``any``: not known, so by the rule of mcp-servers.json. The last one: smaller ones are ignored."""


PLAIN: Final = Dialect()
"""That of mcp-servers.json, and of agents that differ in nothing."""


def dialect_of(agent: str, workspace: Path, home: Path | None) -> Dialect:
    """The dialect of an agent.

    Args:
        agent: one of :data:`mcp_extproc.config.agents.places.AGENTS`.
        workspace: the folder that an editor would have opened.
        home: the user's folder, if it is known.
    """
    if agent in ("cursor", "vscode"):
        folders = {"workspaceFolder": str(workspace), "workspaceFolderBasename": workspace.name}
        homes = {} if home is None else {"userHome": str(home)}
        # Of a folder with a variable in its name nothing is made.
        tilde = homes.get("userHome") if agent == "vscode" and "${" not in str(home) else None
        return Dialect({**folders, **homes, "pathSeparator": "/", "/": "/"}, tilde)
    if agent == "gemini":
        return Dialect(bare_variables=True, timeout="milliseconds")
    return Dialect(timeout="milliseconds_from_1000") if agent == "claude-code" else PLAIN


def dialect_of_file(path: Path, environ: Mapping[str, str]) -> Dialect:
    """The dialect of a file that an operator names: the agent's, if it is one of an agent's files by its name."""
    folder, name = path.absolute().parent, path.name
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    for agent, project in _EDITORS.items():
        if (folder.name, name) == (project, "mcp.json"):
            return dialect_of(agent, folder.parent, home)
    if (folder.name, name) == (".gemini", "settings.json"):
        return dialect_of("gemini", folder, home)
    return dialect_of("claude-code", folder, home) if name in (".mcp.json", ".claude.json") else PLAIN


_EDITORS: Final = {"cursor": ".cursor", "vscode": ".vscode"}
"""The folders in which they keep their ``mcp.json``, in a project."""


def plain_entry(entry: Any, dialect: Dialect, environ: Mapping[str, str]) -> Any:
    """An entry in the way of mcp-servers.json.

    Args:
        entry: as the agent writes it.
        dialect: the agent's.
        environ: where variables are looked up.
    """
    if dialect is PLAIN or not isinstance(entry, dict):
        return entry

    def text(value: Any, key: str) -> Any:
        if not isinstance(value, str):
            return value
        if key in _PATHS and dialect.tilde is not None and _TILDE.match(value):
            value = f"{dialect.tilde}{value[1:]}"
        return _plain_text(value, dialect, environ)

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, list):
            return [text(item, key) for item in value]
        return {name: text(item, key) for name, item in value.items()} if isinstance(value, dict) else text(value, key)

    found = {key: plain(value, key) if key in KEYS else value for key, value in entry.items()}
    return {**found, "timeout": _timeout(found["timeout"], dialect)} if "timeout" in found else found


def _plain_text(text: str, dialect: Dialect, environ: Mapping[str, str]) -> str:
    def known(match: re.Match[str]) -> str:
        value = dialect.placeholders.get(match[1])
        # Of a folder with such a name nothing is made, as what it has would be replaced once more.
        return match[0] if value is None or "${" in value else value

    def braced(match: re.Match[str]) -> str:
        # One that is not set stays as it is there. That of a `$` in a password is none of our messages' business.
        return f"${{{match[1]}}}" if match[1] in environ or _CONVENTIONAL.fullmatch(match[1]) else match[0]

    text = _PLACEHOLDER.sub(known, text)
    return _BARE.sub(braced, text) if dialect.bare_variables else text


def _timeout(value: Any, dialect: Dialect) -> Any:
    if dialect.timeout == "any" or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value < 1000 and dialect.timeout == "milliseconds_from_1000":
        return None
    return f"{value}ms"
