"""Agents' servers as the source of a configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mcp_extproc.config.agents.files import AgentFile, read_files
from mcp_extproc.config.agents.places import Place, places
from mcp_extproc.config.agents.servers import Merged, merge
from mcp_extproc.config.config_error import ConfigError, Problem
from mcp_extproc.config.load import Loaded, loads
from mcp_extproc.config.source import file_signature


@dataclass(frozen=True, slots=True)
class Machine:
    """Who runs the gateway, and where."""

    home: Path
    """The user's folder."""
    folder: Path
    """The project's, absolute."""
    environ: Mapping[str, str]
    platform: str
    """As `sys.platform`."""


class AgentsSource:
    """The servers of some agents.

    Args:
        machine: where to look.
        agents: names in :data:`~mcp_extproc.config.agents.places.AGENTS`.
        strict: refuse files and servers that can't be served. Otherwise they are left out.
    """

    def __init__(self, machine: Machine, agents: Collection[str], *, strict: bool = False) -> None:
        self.machine = machine
        self._strict = strict
        every = places(machine.home, machine.folder, machine.environ, machine.platform)
        self.places: Sequence[Place] = [place for place in every if place.agent in agents]
        self._of_project: Sequence[AgentFile] | None = None
        """As they were read first."""
        self._were_read: frozenset[Path] = frozenset()
        """Files that the present configuration has servers of."""

    @property
    def folder(self) -> Path:
        """The project's."""
        return self.machine.folder

    def only(self, agents: Collection[str]) -> Self:
        """The same for some agents."""
        other = type(self)(self.machine, agents, strict=self._strict)
        if self._of_project is not None:
            other._of_project = [file for file in self._of_project if file.place.agent in agents]
        return other

    def files(self) -> list[AgentFile]:
        """The files that have servers, or can't be read.

        Those of the project are read once: whoever chose them chose what was in them. What is written into the project later
        (by a checkout, say) is not run unasked.
        """
        files = read_files(self.places)
        if self._of_project is None:
            self._of_project = [file for file in files if file.place.project is not None]
        of_user = [file for file in files if file.place.project is None]
        return sorted([*self._of_project, *of_user], key=lambda file: self.places.index(file.place))

    def merged(self, files: Sequence[AgentFile]) -> Merged:
        """The servers in such files."""
        return merge(files, self.machine.environ)

    def load(self) -> Loaded:
        """The servers that can be served.

        Raises:
            ConfigError: there is none, or a file can't be read that could be before: its servers would be gone for as long as
                somebody writes it. With `strict`, anything that is left out.
        """
        files = self.files()
        merged = self.merged(files)
        agents = dict.fromkeys(file.place.agent for file in files)
        name = f"the servers of {', '.join(agents)}" if agents else "the agents' servers"
        for file in files:
            if file.problem is not None and (self._strict or file.place.path in self._were_read):
                raise ConfigError(str(file.place.path), [file.problem])
        left_out = [server.warning for server in merged.servers if server.state == "left_out"]
        refused = [Problem(warning) for warning in left_out if warning is not None]
        if refused and (self._strict or not merged.entries):
            raise ConfigError(name, refused)
        if not merged.entries:
            raise ConfigError(name, ["there is none to serve"])
        loaded = loads(json.dumps({"mcpServers": merged.entries}), name, self.machine.environ)
        self._were_read = frozenset(file.place.path for file in files if file.problem is None)
        return replace(loaded, warnings=(*_warnings(files, merged), *loaded.warnings))

    def signature(self) -> Hashable:
        """Changes with any of the user's files, also those that are not there yet."""
        return tuple(file_signature(place.path) for place in self.places if place.project is None)


def _warnings(files: Sequence[AgentFile], merged: Merged) -> list[str]:
    unread = [f"{file.place.path} ({file.place.agent}): {file.problem}" for file in files if file.problem is not None]
    return [*unread, *(server.warning for server in merged.servers if server.warning is not None)]
