"""The servers of several agents as those of one gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel

from mcp_extproc.address import TcpAddress
from mcp_extproc.config.agents.files import AgentFiles, Switch
from mcp_extproc.config.agents.places import Place
from mcp_extproc.config.command_words import shown_command, whole_command
from mcp_extproc.config.config_error import ConfigError, Problem, field, is_left_out, quoted
from mcp_extproc.config.dialects import Dialect, plain_entry
from mcp_extproc.config.load import loads
from mcp_extproc.config.model import Server
from mcp_extproc.config.server_entry import is_off, usable_name
from mcp_extproc.config.uri_words import scheme_word
from mcp_extproc.config.variables import names_in

_SHOWN_CHARACTERS: Final = 100
_COLUMN: Final = 60


@dataclass(frozen=True, slots=True)
class FoundServer:
    """One server in one agent's file."""

    name: str
    """In the file. Anybody may have written it."""
    place: Place
    state: Literal["served", "same", "hidden", "disabled", "left_out"]
    """``same``: the gateway serves the same one from a place before. ``hidden``: the agent itself uses another one with this
    name. ``left_out``: the gateway can't serve it."""
    served_as: str | None = None
    """The gateway's name of it, if it is served."""
    about: str = ""
    """What it is, or why it is not served; no values of the file that may be secret."""
    renamed: str = ""
    """Why the gateway's name of it is another one."""
    problems: tuple[Problem, ...] = ()
    """Why it is left out, and what to do."""

    @property
    def warning(self) -> str | None:
        """One sentence for whoever expects it to be served under its name."""
        where = f"{quoted(self.name)} ({self.place.agent}, {self.place.path})"
        if self.state == "left_out":
            return is_left_out(where, self.problems)
        if self.state == "disabled":
            return f"{where}: disabled{self.about}, so it is left out"
        if self.renamed:
            return f"{where} is served as {self.served_as}: {self.renamed}"
        return None


@dataclass(frozen=True, slots=True)
class Merged:
    """All servers of some files."""

    servers: tuple[FoundServer, ...]
    """In the order of the files."""
    entries: Mapping[str, Any]
    """Those that are served, by the gateway's names, in the way of mcp-servers.json."""


def merge(found: AgentFiles, environ: Mapping[str, str], dialect: Callable[[str], Dialect]) -> Merged:
    """The servers in files, each under a name of its own.

    What several places have under one name, and is the same to the gateway, is served once. Of different ones, the first keeps
    the name, and the others get their agent's appended. The user's own come before a project's there: approvals go by name,
    and a stranger's server must not get those of the user's. An agent with two uses the first itself.

    Args:
        found: files in the order in which an agent uses them.
        environ: for ``${VAR}``.
        dialect: of an agent.
    """
    written = []
    for file in found.files:
        own = dialect(file.place.agent)
        written += [(file.place, name, plain_entry(entry, own, environ)) for name, entry in file.entries.items()]
    used: dict[tuple[str, str], Place] = {}
    for place, name, _ in written:
        used.setdefault((place.agent, name), place)
    merger = _Merger(environ, found.switches, used)
    of_user_first = sorted(range(len(written)), key=lambda index: written[index][0].project is not None)
    servers = {index: merger.add(*written[index]) for index in of_user_first}
    return Merged(tuple(servers[index] for index in range(len(written))), merger.entries)


class _Merger:
    def __init__(
        self, environ: Mapping[str, str], switches: Sequence[Switch], used: Mapping[tuple[str, str], Place]
    ) -> None:
        self._environ = environ
        self._switches = switches
        self.entries: dict[str, Any] = {}
        self._used = used
        """Where an agent has the server with a name that it uses, by agent and name."""
        self._owners: dict[str, str] = {}
        """The first agent of each name, by the name that its server would have alone."""
        self._alike: dict[Hashable, list[tuple[Server, FoundServer]]] = {}
        """What is served, by that name and what it is but for its transport: at most one with each."""
        self._words: set[str] = set()
        """The names that are taken. URIs do not tell case apart."""
        self._numbers: dict[tuple[str, str], Iterator[int]] = {}
        """What names that are taken may still end in, by their start and agent: none is tried twice."""

    def add(self, place: Place, name: str, entry: Any) -> FoundServer:
        used = self._used[place.agent, name]
        if used is not place:
            return FoundServer(name, place, "hidden", about=f"{place.agent} uses the one in {used.path}")
        if isinstance(entry, dict) and is_off(entry):
            return FoundServer(name, place, "disabled")
        return self._switched(place, name) or self._judged(place, name, entry)

    def _switched(self, place: Place, name: str) -> FoundServer | None:
        """A server that an agent's lists turn off, or may turn off."""
        about_it = [switch for switch in self._switches if switch.is_about(place)]
        for switch in about_it:
            if switch.named is not None and switch.named.turns_off(name):
                return FoundServer(name, place, "disabled", about=f" by {switch.named.source}")
        unread = [switch.place.path for switch in about_it if switch.problem is not None]
        if not unread:
            return None
        problem = Problem(f"{unread[0]} says whether it is on, and can't be read: repair that file")
        return FoundServer(name, place, "left_out", about=_in_short(problem.message), problems=(problem,))

    def _judged(self, place: Place, name: str, entry: Any) -> FoundServer:
        wanted = usable_name(name)
        try:
            server = _checked(wanted, entry, self._environ)
        except ConfigError as error:
            about = _in_short(error.problems[0].message)
            return FoundServer(name, place, "left_out", about=about, problems=error.problems)
        word = scheme_word(wanted)
        compared = _with_its_folder(place, server)
        alike = self._alike.setdefault((word, _value(compared)), [])
        for other, one in alike:
            if other.transport == compared.transport or "auto" in (other.transport, compared.transport):
                return FoundServer(name, place, "same", about=f"the same as that of {one.place.agent}")
        served_as = self._free(wanted, place.agent)
        renamed = _why_renamed(name, wanted, served_as, self._owners.get(word))
        self._owners.setdefault(word, place.agent)
        self._words.add(scheme_word(served_as))
        self.entries[served_as] = _at_home(place, entry, server)
        found = FoundServer(name, place, "served", served_as, _kind(place, entry, server), renamed)
        alike.append((compared, found))
        return found

    def _free(self, wanted: str, agent: str) -> str:
        for name in (wanted, _ending(wanted, f"-{agent}")):
            if scheme_word(name) not in self._words:
                return name
        start = scheme_word(_ending(wanted, f"-{agent}-0000"))
        numbers = self._numbers.setdefault((start, agent), count(2))
        names = (_ending(wanted, f"-{agent}-{number}") for number in numbers)
        return next(name for name in names if scheme_word(name) not in self._words)


def _ending(name: str, end: str) -> str:
    """A name with an end, and no longer than a server's may be."""
    return usable_name(name, 48 - len(end)) + end


def _checked(name: str, entry: Any, environ: Mapping[str, str]) -> Server:
    """What the gateway makes of an entry alone.

    Raises:
        ConfigError: nothing. Paths in it begin in the entry.
    """
    if not name:
        raise ConfigError("", ["the name has no character that a server's may have: rename it in the agent"])
    try:
        return loads(json.dumps({"mcpServers": {name: entry}}), name, environ).config.servers[name]
    except ConfigError as error:
        start = field(("mcpServers", name))
        problems = [one.inside(start) for one in error.problems]
    except RecursionError:
        problems = [Problem("nested too deep")]
    raise ConfigError(name, problems)


def _in_short(message: str) -> str:
    """What is wrong, without what to do, for a column of a table."""
    return message if len(message) <= _COLUMN else message.partition(": ")[0]


def _value(server: Server) -> Hashable:
    """What a server is, but for its transport: some agents write none; it is found later, and is the same then."""
    return _hashable({key: value for key, value in server if key != "transport"})


def _hashable(value: Any) -> Hashable:
    if isinstance(value, Mapping | BaseModel):
        value = dict(value)
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _at_home(place: Place, entry: Any, server: Server) -> Any:
    """An entry whose relative paths begin where its file does: in the project, or else beside the user's file. So a folder in
    which somebody starts the gateway has no say in what the user's own servers are.

    Args:
        place: of its file.
        entry: with its variables. They stay.
        server: what it comes to: a path that begins with a variable may be absolute.
    """
    if server.command is None:
        return entry
    paths = {"cwd": server.cwd or ".", "envFile": server.env_file}
    relative = [key for key, path in paths.items() if path is not None and not Path(path).is_absolute()]
    return {**entry, **{key: str(_home(place) / (entry.get(key) or ".")) for key in relative}}


def _with_its_folder(place: Place, server: Server) -> Server:
    """A command for comparison: with absolute paths, and with its folder where it says that it begins there. Others, such as
    ``npx some-server``, are the same from any folder."""
    if server.command is None:
        return server
    program, *arguments = (word.get_secret_value() for word in server.command)
    begins_there = (
        server.cwd is not None
        or ("/" in program and not program.startswith("/"))
        or any(word.startswith(("./", "../")) for word in arguments)
    )
    paths = {"cwd": (server.cwd or ".") if begins_there else None, "env_file": server.env_file}
    home = _home(place)
    return server.model_copy(update={key: path and str(home / path) for key, path in paths.items()})


def _home(place: Place) -> Path:
    return place.project or place.path.parent


def _why_renamed(name: str, wanted: str, served_as: str, owner: str | None) -> str:
    if name == served_as:
        return ""
    if owner is not None:
        return f"{owner} has another one of this name"
    return "names of servers are prefixes of tools' names here" if name != wanted else "the name is taken"


def _kind(place: Place, entry: Mapping[str, Any], server: Server) -> str:
    """For a person who judges it: the command that is started, or the address. Of a project's server, also what else says
    which code runs, and what of the user's environment it is given."""
    if server.command is not None:
        written = [entry["command"], *(entry.get("args") or ())]
        shown = shown_command(written, _SHOWN_CHARACTERS) if place.project is None else whole_command(written)
        kind = f"stdio: {shown}"
    else:
        kind = f"HTTP: {TcpAddress(*server.addresses[0])}"
    if place.project is None:
        return kind
    more = {
        "env": list(server.env),
        "envFile": [entry["envFile"]] if entry.get("envFile") else [],
        "cwd": [entry["cwd"]] if entry.get("cwd") else [],
        "headers": list(server.headers),
        "variables": list(dict.fromkeys(names_in(entry))),
    }
    return "; ".join([kind, *(f"{key}: {', '.join(names)}" for key, names in more.items() if names)])
