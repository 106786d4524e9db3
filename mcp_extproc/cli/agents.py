"""What ``run`` serves if it is given no file: the servers of agents on this machine, those that are chosen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from mcp_extproc.cli.common import complain, escape
from mcp_extproc.config.agents.files import AgentFiles
from mcp_extproc.config.agents.places import AGENTS
from mcp_extproc.config.agents.source import AgentsSource, Machine
from mcp_extproc.config.config_error import quoted
from mcp_extproc.telemetry.printable import printable

_STATES = {
    "served": "[green]{}[/]", "same": "[dim]{}[/]", "hidden": "[dim]{}[/]", "disabled": "[dim]disabled{}[/]",
    "left_out": "[red]left out: {}[/]",
}  # fmt: skip


def of_agents(chosen: Collection[str], *, every: bool, strict: bool, as_json: bool) -> AgentsSource:
    """The servers of the agents that are chosen on the command line, or in the terminal. Elsewhere, if none is: say what there
    is, and exit.

    Args:
        chosen: the agents' names.
        every: choose all.
        strict: refuse what can't be served.
        as_json: for a script, which is asked nothing.
    """
    source = AgentsSource(_machine(), AGENTS, strict=strict)
    files = source.files()
    has = list(dict.fromkeys(file.place.agent for file in files.files))
    if missing := [agent for agent in chosen if agent not in has]:
        listed = f"There are those of {', '.join(has)}." if has else "No other agent has any."
        raise click.UsageError(
            f"there are no servers of {', '.join(missing)}. {listed}\n{_looked(source.only(missing))}"
        )
    to_ask = list(dict.fromkeys(file.place.agent for file in files.files if file.entries))
    terminal = not as_json and sys.stdout.isatty()
    if not has or not (chosen or every or (terminal and sys.stdin.isatty() and to_ask)):
        _leave(source, files, as_json)
    picked = source.only(chosen) if chosen else source
    if terminal:
        _show(picked, files.of(place.agent for place in picked.places))
    if chosen or every:
        return picked
    by_strangers = any(file.place.project is not None and file.entries for file in files.files)
    return source.only(_asked(to_ask, default=None if by_strangers else "all"))


def _machine() -> Machine:
    try:
        return Machine(Path.home(), Path.cwd(), os.environ, sys.platform)
    except (RuntimeError, OSError) as error:
        raise click.UsageError(f"there is no FILE, and no folder to look for those of agents: {error}") from None


def _asked(has: Sequence[str], default: str | None) -> list[str]:
    """The agents that somebody names, of those that have servers.

    Args:
        has: those.
        default: what Enter means; nothing where a project's files are among them, whose commands would be run.
    """

    def read(text: str) -> list[str]:
        words = text.replace(",", " ").split()
        if wrong := [word for word in words or [text] if word not in has and word != "all"]:
            raise click.UsageError(f"{wrong[0]!r} is none of {', '.join(has)}, all")
        return list(AGENTS if "all" in words else dict.fromkeys(words))

    picked: list[str] = click.prompt(
        f"Serve those of ({', '.join(has)}; several, or all)", default=default, value_proc=read
    )
    return picked


def _show(source: AgentsSource, files: AgentFiles) -> None:
    """Print a table of the servers, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("server", "state", "agent", "file"):
        table.add_column(column, overflow="fold")
    for server in source.merged(files).servers:
        state = _STATES[server.state].format(escape(server.about.replace(f"{source.machine.home}/", "~/")))
        if server.renamed:
            state += f" [dim]({escape(f'{quoted(server.name)} there; {server.renamed}')})[/]"
        name = server.served_as or quoted(server.name)
        table.add_row(escape(name), state, server.place.agent, escape(_short(source, server.place.path)))
    for path, (agent, problem) in files.unread.items():
        table.add_row("-", f"[red]{escape(problem)}[/]", agent, escape(_short(source, path)))
    Console().print(table)


def _leave(source: AgentsSource, files: AgentFiles, as_json: bool) -> NoReturn:
    """Say what there is to choose, or where there is nothing, and exit."""
    if as_json:
        print(json.dumps(_findings(source, files)))  # noqa: T201
    elif files.files:
        what = "Choose with --from AGENT (once for each) or --all, or name a FILE."
        complain("\n".join(["there is no FILE. Agents have servers:", *_lines(source, files), what]))
    else:
        complain(f"there is no FILE, and no agent has servers. Name a FILE.\n{_looked(source)}")
    sys.exit(2)


def _lines(source: AgentsSource, files: AgentFiles) -> list[str]:
    """The files, and what those of a project, which a stranger may have written, would have us run."""
    rows = []
    for file in files.files:
        count = f"{len(file.entries)} server{'s' if len(file.entries) != 1 else ''}"
        rows.append((file.place.agent, printable(_short(source, file.place.path)), file.problem or count))
    agent, path = (max(len(row[column]) for row in rows) for column in (0, 1))
    served = [server for server in source.merged(files).servers if server.state == "served"]
    lines = []
    for file, row in zip(files.files, rows, strict=True):
        lines.append(f"  {row[0]:{agent}}  {row[1]:{path}}  {row[2]}")
        if file.place.project is not None:
            mine = [server for server in served if server.place == file.place]
            lines += [printable(f"    {quoted(server.name)}  {server.about}") for server in mine]
    return lines


def _looked(source: AgentsSource) -> str:
    looked = dict.fromkeys(printable(_short(source, place.path)) for place in source.places)
    return f"Looked at {', '.join(looked)}"


def _findings(source: AgentsSource, files: AgentFiles) -> dict[str, Any]:
    return {
        "files": [
            {"agent": file.place.agent, "path": str(file.place.path), "servers": len(file.entries), "problem": file.problem}
            for file in files.files
        ],
        "servers": [
            {
                "name": server.name, "agent": server.place.agent, "path": str(server.place.path), "state": server.state,
                "served_as": server.served_as, "about": server.about,
                "problems": [str(problem) for problem in server.problems],
            }
            for server in source.merged(files).servers
        ],
        "looked": list(dict.fromkeys(str(place.path) for place in source.places)),
    }  # fmt: skip


def _short(source: AgentsSource, path: Path) -> str:
    """A path as people write it."""
    folder, home = source.machine.folder, source.machine.home
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
