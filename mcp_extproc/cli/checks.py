"""``validate``, ``check`` and ``schema``: problems of a file, or of its servers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mcp_extproc.cli.common import complain, escape, place_of, standard_output, warn
from mcp_extproc.cli.options import ENVOY, FILE, RESOLVE, STRICT
from mcp_extproc.config import ConfigError, EnvoysSource, FileSource, Loaded, load
from mcp_extproc.config.config_error import field
from mcp_extproc.config.model import start_of
from mcp_extproc.config.named_files import missing_files, unknown_command_lines, unusable_files
from mcp_extproc.config.own_listener import certificates_without_tls

if TYPE_CHECKING:
    from rich.console import Console

    from mcp_extproc.check.report import Report


@click.command()
@FILE
@STRICT
@RESOLVE
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def validate(file: Path, strict: bool, resolve: Mapping[str, str], as_json: bool) -> None:
    """Check FILE without starting anything."""
    try:
        loaded = load(file, os.environ, strict=strict, resolve=resolve)
    except ConfigError as error:
        if not as_json:
            raise
        _exit_with_problems(error)
    # Where it is checked need not be where it is served.
    files = map(loaded.as_written, [*missing_files(loaded.config), *unusable_files(loaded.config)])
    warnings = [*loaded.warnings, *(f"on this machine: {problem}" for problem in files)]
    warnings += [
        f"{problem}. Only an attached gateway needs none" for problem in certificates_without_tls(loaded.config)
    ]
    table = "mcpServers" if loaded.source == "mcp-servers" else "servers"
    lines = unknown_command_lines(loaded.config)
    warnings += [f"{field((table, name, 'command'))} {problem}" for name, problem in lines.items()]
    if as_json:
        _print_json({"valid": True, "warnings": warnings, "servers": list(loaded.config.servers)})
        return
    for warning in warnings:
        warn(warning)
    count = len(loaded.config.servers)
    names = f"{count} server{'s' if count != 1 else ''}: {', '.join(loaded.config.servers)}"
    with standard_output():
        click.echo(f"{file}: valid, {names if count else 'pass-through only'}")


@click.command()
@FILE
@STRICT
@RESOLVE
@ENVOY
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(file: Path, strict: bool, resolve: Mapping[str, str], envoy_path: str | None, as_json: bool) -> None:
    """Connect to all servers of FILE, and check their names: collisions, names that are too long, filters and rules without a
    match. Files with keys are read, Envoy is asked whether it takes the whole configuration, and it is tried whether audit and
    telemetry can go where they are to go.

    A temporary Envoy is started for this. Exit code 0: no problems; 1: problems; 2: FILE is invalid.
    """
    from rich.console import Console

    from mcp_extproc.envoy.version import EnvoyTooOld
    from mcp_extproc.run.envoy_binary import EnvoyNotFound, supported_envoy
    from mcp_extproc.run.process import StartError

    try:
        loaded = to_read(EnvoysSource(FileSource(file, os.environ, strict=strict, resolve=resolve)).load())
        loaded.require_servers()
    except ConfigError as error:
        if not as_json:
            raise
        _exit_with_problems(error)
    try:
        fine = serves_well(loaded, supported_envoy(envoy_path), as_json, Console())
    except (EnvoyNotFound, EnvoyTooOld, StartError) as error:
        if as_json:
            _print_json({"valid": True, "error": str(error)})
        complain(str(error))
        sys.exit(1)
    sys.exit(0 if fine else 1)


def to_read(loaded: Loaded) -> Loaded:
    """With a log, also of the bridge, as all else on standard error: for people. Why servers fail is in the report. What the
    file says of the log holds."""
    from mcp_extproc.telemetry import log

    loaded = loaded.with_log(level="error", format="text")
    log.configure(loaded.config.log.level, loaded.config.log.format)
    return loaded


def serves_well(loaded: Loaded, envoy: str, as_json: bool, console: Console) -> bool:
    """Check the servers and print the report. Returns whether there are no problems."""
    import asyncio

    from rich.console import Console

    from mcp_extproc.check.report import check as check_servers

    with Console(stderr=True).status("Connecting to the servers") as shown:

        def tell_waiting(names: Sequence[str]) -> None:
            shown.update(escape(f"Waiting for {', '.join(names)}: still starting"))

        report = asyncio.run(check_servers(loaded.config, Path(loaded.name).absolute().parent, envoy, tell_waiting))
    if as_json:
        _print_json({"valid": True, "warnings": loaded.warnings, **asdict(report)})
        return not report.problems
    for warning in loaded.warnings:
        warn(warning)
    with standard_output():
        _print_report(loaded, report, console)
    return not report.problems


def _print_report(loaded: Loaded, report: Report, console: Console) -> None:
    from rich.table import Table

    wrong = {problem.server for problem in report.problems}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("server", "state", "protocol", "tools", "prompts", "resources", "prefix"):
        right = column in ("tools", "prompts", "resources")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for server in report.servers:
        offered = "" if server.tools_offered == server.tools else f"{server.tools_offered} of "
        counts = ["-" if count is None else str(count) for count in (server.tools, server.prompts, server.resources)]
        counts[0] = offered + counts[0]
        prefix = start_of(server.name, loaded.config.servers[server.name], loaded.config.separator) or "(none)"
        state = "[red]see below[/]" if server.name in wrong else "[green]fine[/]"
        if server.state in ("starting", "unknown"):
            state = f"[yellow]{server.state}[/]"
        table.add_row(server.name, state, server.version or "-", *counts, prefix)
    console.print(table)
    if report.virtual_servers:
        further = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("virtual server", "tools", "prompts", "URL"):
            further.add_column(column, justify="right" if column in ("tools", "prompts") else "left", overflow="fold")
        for one in report.virtual_servers:
            further.add_row(one.name, str(one.tools), str(one.prompts), escape(place_of(one.url, one.headers)))
        console.print("\n", further, sep="")
    for color, told in (("yellow", report.notes), ("red", report.problems)):
        for problem in told:
            about = f"{problem.server}: " if problem.server is not None else ""
            console.print(
                f"[{color}]{problem.kind}[/]  {escape(about + problem.text)}", highlight=False, soft_wrap=True
            )
    count, notes = len(report.problems), len(report.notes)
    fine = f"no problems, {notes} remark{'s' if notes != 1 else ''}" if notes else "nothing is wrong"
    console.print(f"{count} problem{'s' if count != 1 else ''}" if count else fine, style="dim")


def _exit_with_problems(error: ConfigError) -> NoReturn:
    """Print the problems of a configuration as JSON, all of them."""
    written = [asdict(problem) for problem in error.problems]
    found = [{key: value for key, value in problem.items() if value is not None} for problem in written]
    _print_json({"valid": False, "problems": found})
    sys.exit(2)


def _print_json(result: Mapping[str, object]) -> None:
    with standard_output():
        click.echo(json.dumps(result))


@click.command()
def schema() -> None:
    """Print the JSON Schema of the native configuration."""
    from mcp_extproc.config.schema import json_schema

    with standard_output():
        click.echo(json.dumps(json_schema(), indent=2))
