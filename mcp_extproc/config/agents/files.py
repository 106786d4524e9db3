"""What stands in the files of agents: their tables of servers, and nothing else of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_extproc.config.agents.places import Place
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.json_text import part_of_json
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


def read_files(places: Iterable[Place]) -> list[AgentFile]:
    """The places where there is something, in their order. One to which several paths of an agent's lead counts once."""
    found, seen = [], set()
    for place in places:
        where = place.agent, os.path.realpath(place.path), place.table
        if where in seen:
            continue
        seen.add(where)
        file = _read(place)
        if file.entries or file.problem is not None:
            found.append(file)
    return found


def _read(place: Place) -> AgentFile:
    try:
        if not is_there(place.path):
            return AgentFile(place)
        text = text_in(place.path, FILE_BYTES)
        table = part_of_json(text.removeprefix("\ufeff"), str(place.path), place.table) if text.strip() else None
    except ConfigError as error:
        return AgentFile(place, problem=str(error.problems[0]))
    if table is None:
        return AgentFile(place)
    if not isinstance(table, dict):
        return AgentFile(place, problem=f"{place.table[-1]}: expected an object of servers")
    if len(table) > MAX_SERVERS:
        return AgentFile(place, problem=f"{place.table[-1]}: there are more than {MAX_SERVERS} servers")
    return AgentFile(place, table)
