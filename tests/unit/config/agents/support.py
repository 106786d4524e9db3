"""A machine with agents' files on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_extproc.config.agents.files import AgentFile, read_files
from mcp_extproc.config.agents.places import AGENTS
from mcp_extproc.config.agents.source import AgentsSource, Machine


class Home:
    """A user's folder with a project in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "shop"
        self.folder.mkdir()

    def write(self, name: str, content: Any) -> Path:
        """A file, below the user's folder: text, or what is JSON in it."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def servers(self, name: str, **servers: Any) -> Path:
        """A file with these servers, name to entry or URL."""
        entries = {key: {"url": entry} if isinstance(entry, str) else entry for key, entry in servers.items()}
        return self.write(name, {"servers" if "mcp.json" in name and "cursor" not in name else "mcpServers": entries})

    def source(
        self, *agents: str, environ: Mapping[str, str] | None = None, strict: bool = False, platform: str = "linux"
    ) -> AgentsSource:
        machine = Machine(self.path, self.folder, environ or {}, platform)
        return AgentsSource(machine, agents or AGENTS, strict=strict)

    def files(self, *agents: str) -> list[AgentFile]:
        return list(read_files(self.source(*agents).places).files)
