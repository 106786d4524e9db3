"""What stands in the files of agents: their tables of servers and what turns these off, and nothing else of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcp_extproc.config.agents.places import Place, SwitchPlace
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.json_text import parse_foreign_json, part_at
from mcp_extproc.config.switches import NamedOnes, names_in
from mcp_extproc.config.text_file import is_there, text_in

FILE_BYTES: Final = 64 << 20
"""Maximum size of a file. Claude Code keeps the history of all projects beside its servers."""

MAX_SERVERS: Final = 1000
"""Maximum in one file. Each is validated, and shown on a line of its own."""


@dataclass(frozen=True, slots=True)
class AgentFile:
    """A place where there is something: servers, or a reason why they can't be read."""

    place: Place
    entries: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The servers by name, as written. They may hold secrets."""
    problem: str | None = None
    """Why there are none."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A list that turns servers on or off, or a reason why it can't be read."""

    place: SwitchPlace
    named: NamedOnes | None = None
    """``None`` if it can't be read."""
    problem: str | None = None

    def is_about(self, place: Place) -> bool:
        """Whether a place's servers can be in it."""
        return self.place.agent == place.agent and self.place.of in (None, place.path)


@dataclass(frozen=True, slots=True)
class AgentFiles:
    """What some places hold, each file read once."""

    files: tuple[AgentFile, ...] = ()
    switches: tuple[Switch, ...] = ()

    def of(self, agents: Iterable[str]) -> AgentFiles:
        """That of some agents."""
        wanted = set(agents)
        return AgentFiles(
            tuple(file for file in self.files if file.place.agent in wanted),
            tuple(switch for switch in self.switches if switch.place.agent in wanted),
        )

    def __add__(self, other: AgentFiles) -> AgentFiles:
        """Both. One file to which several paths of an agent's lead counts once."""
        known = {_identity(file.place) for file in self.files}
        more = (file for file in other.files if _identity(file.place) not in known)
        return AgentFiles((*self.files, *more), (*self.switches, *other.switches))

    @property
    def unread(self) -> Mapping[Path, tuple[str, str]]:
        """Files that can't be read: whose they are, and why."""
        found: list[AgentFile | Switch] = [*self.files, *self.switches]
        return {item.place.path: (item.place.agent, item.problem) for item in found if item.problem is not None}

    @property
    def read(self) -> frozenset[Path]:
        """Those that can, and have something to say."""
        found: list[AgentFile | Switch] = [*self.files, *self.switches]
        return frozenset(item.place.path for item in found if item.problem is None)


def read_files(places: Iterable[Place], switches: Iterable[SwitchPlace] = ()) -> AgentFiles:
    """What places hold, in their order. One to which several paths of an agent's lead counts once."""
    documents, seen = _Documents(), set()
    files = []
    for place in places:
        if (where := _identity(place)) in seen:
            continue
        seen.add(where)
        file = _table(place, documents)
        if file.entries or file.problem is not None:
            files.append(file)
    return AgentFiles(tuple(files), tuple(found for place in switches for found in _switch(place, documents)))


class _Documents:
    """Files, each read once. Nobody keeps this: the files hold more than servers."""

    def __init__(self) -> None:
        self._read: dict[Path, Any] = {}

    def at(self, path: Path, keys: tuple[str, ...]) -> Any:
        """What stands in a file; ``None`` if nothing does.

        Raises:
            ConfigError: the file can't be read.
        """
        if path not in self._read:
            try:
                self._read[path] = _document(path)
            except ConfigError as error:
                self._read[path] = error
        found = self._read[path]
        if isinstance(found, ConfigError):
            raise found
        return part_at(found, keys)


def _document(path: Path) -> Any:
    if not is_there(path):
        return None
    text = text_in(path, FILE_BYTES)
    return parse_foreign_json(text.removeprefix("\ufeff"), str(path)) if text.strip() else None


def _identity(place: Place) -> tuple[str, str, tuple[str, ...]]:
    return place.agent, os.path.realpath(place.path), place.table


def _table(place: Place, documents: _Documents) -> AgentFile:
    try:
        table = documents.at(place.path, place.table)
    except ConfigError as error:
        return AgentFile(place, problem=str(error.problems[0]))
    if table is None:
        return AgentFile(place)
    if not isinstance(table, dict):
        return AgentFile(place, problem=f"{place.table[-1]}: expected an object of servers")
    if len(table) > MAX_SERVERS:
        return AgentFile(place, problem=f"{place.table[-1]}: there are more than {MAX_SERVERS} servers")
    return AgentFile(place, table)


def _switch(place: SwitchPlace, documents: _Documents) -> Iterable[Switch]:
    try:
        found = documents.at(place.path, place.keys)
        names = names_in(_off_states(found) if place.means == "states" else found)
    except ConfigError as error:
        yield Switch(place, problem=str(error.problems[0]))
    except ValueError as error:
        yield Switch(place, problem=f"{'.'.join(place.keys[-2:])}: {error}")
    else:
        if names is not None:
            what = f"{place.keys[-1]} in " if place.keys else ""
            yield Switch(place, NamedOnes(names, place.means != "only", f"{what}{place.path}"))


def _off_states(states: Any) -> Any:
    """The names that are off in ``{"name": {"enabled": false}}``."""
    if not isinstance(states, dict):
        return states
    return [name for name, state in states.items() if isinstance(state, dict) and state.get("enabled") is False]
