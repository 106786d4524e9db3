"""Agents' servers as the source of a configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mcp_extproc.config.agents.files import AgentFiles, read_files
from mcp_extproc.config.agents.places import Place, SwitchPlace, places, switch_places
from mcp_extproc.config.agents.servers import Merged, merge
from mcp_extproc.config.config_error import ConfigError, Problem
from mcp_extproc.config.dialects import Dialect, dialect_of
from mcp_extproc.config.load import Loaded, loads
from mcp_extproc.file_signature import file_signature


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

    The project's files are read here, once: whoever chooses them chooses what is in them. What is written into the project
    later (by a checkout, say) is not run unasked. The user's own files are followed.

    Args:
        machine: where to look.
        agents: names in :data:`~mcp_extproc.config.agents.places.AGENTS`.
        strict: refuse files and servers that can't be served. Otherwise they are left out.
        of_project: what the project's files hold, if they were read before.
    """

    def __init__(
        self, machine: Machine, agents: Collection[str], *, strict: bool = False, of_project: AgentFiles | None = None
    ) -> None:
        self.machine = machine
        self._strict = strict
        every = places(machine.home, machine.folder, machine.environ, machine.platform)
        self.places: Sequence[Place] = [place for place in every if place.agent in agents]
        switches = switch_places(machine.home, machine.folder, machine.environ)
        self._switches = [place for place in switches if place.agent in agents]
        self._of_project = self._read(of_user=False) if of_project is None else of_project.of(agents)
        self._were_read: frozenset[Path] = frozenset()
        """Files that the present configuration is made of."""

    @property
    def folder(self) -> Path:
        """The project's."""
        return self.machine.folder

    def only(self, agents: Collection[str]) -> Self:
        """The same for some agents."""
        return type(self)(self.machine, agents, strict=self._strict, of_project=self._of_project)

    def files(self) -> AgentFiles:
        """The files that have servers, or can't be read. The project's come first, as in :attr:`places`."""
        return self._of_project + self._read(of_user=True)

    def _read(self, *, of_user: bool) -> AgentFiles:
        return read_files(
            [place for place in self.places if (place.project is None) is of_user],
            [place for place in self._switches if (place.project is None) is of_user],
        )

    def merged(self, files: AgentFiles) -> Merged:
        """The servers in such files."""
        return merge(files, self.machine.environ, self._dialect)

    def _dialect(self, agent: str) -> Dialect:
        return dialect_of(agent, self.machine.folder, self.machine.home)

    def load(self) -> Loaded:
        """The servers that can be served.

        Raises:
            ConfigError: there is none, or a file can't be read that could be before: its servers would be gone for as long as
                somebody writes it. With `strict`, anything that is left out.
        """
        found = self.files()
        merged = self.merged(found)
        agents = dict.fromkeys(file.place.agent for file in found.files)
        name = f"the servers of {', '.join(agents)}" if agents else "the agents' servers"
        for path, (_, problem) in found.unread.items():
            if self._strict or path in self._were_read:
                raise ConfigError(str(path), [problem])
        left_out = [server.warning for server in merged.servers if server.state == "left_out"]
        refused = [Problem(warning) for warning in left_out if warning is not None]
        if refused and (self._strict or not merged.entries):
            raise ConfigError(name, refused)
        if not merged.entries:
            raise ConfigError(name, ["there is none to serve"])
        loaded = loads(json.dumps({"mcpServers": merged.entries}), name, self.machine.environ)
        self._were_read = found.read
        return replace(loaded, warnings=(*_warnings(found, merged), *loaded.warnings))

    def signature(self) -> Hashable:
        """Changes with any of the user's files, also those that are not there yet."""
        every: list[Place | SwitchPlace] = [*self.places, *self._switches]
        of_user = [place.path for place in every if place.project is None]
        return tuple(file_signature(path) for path in dict.fromkeys(of_user))


def _warnings(found: AgentFiles, merged: Merged) -> list[str]:
    unread = [f"{path} ({agent}): {problem}" for path, (agent, problem) in found.unread.items()]
    return [*unread, *(server.warning for server in merged.servers if server.warning is not None)]
