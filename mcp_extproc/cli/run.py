"""``run``: Envoy and the gateway for one file, on this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from mcp_extproc.cli.agents import of_agents
from mcp_extproc.cli.announcement import announce
from mcp_extproc.cli.checks import serves_well
from mcp_extproc.cli.common import complain, has_started, served_from, until_told_to_stop
from mcp_extproc.cli.options import ENVOY, PORT, RESOLVE, STRICT
from mcp_extproc.cli.serve import nursery_of
from mcp_extproc.config import EnvoysSource, FileSource, Loaded, Source, TextSource
from mcp_extproc.config.agents.places import AGENTS
from mcp_extproc.config.own_listener import OwnListenersSource
from mcp_extproc.config.status_source import StatusSource
from mcp_extproc.run.resident import give_back, mapped
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.access_line import AccessLines

if TYPE_CHECKING:
    from mcp_extproc.run.standalone import StandaloneGateway

_LOG = log.logger("run")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--from",
    "agents",
    type=click.Choice(AGENTS),
    multiple=True,
    metavar="AGENT",
    help=f"Serve the servers that this agent has, instead of FILE: {', '.join(AGENTS)}. Once for each.",
)
@click.option("--all", "every", is_flag=True, help="Serve those of all agents.")
@click.option(
    "--mcp-config",
    type=click.Path(path_type=Path),
    help="The same as FILE, as users of `aigw` write it.",
)
@click.option(
    "--mcp-json",
    metavar="TEXT",
    help="What would stand in FILE, instead of it. Others can see it in the list of processes: write ${NAME} for credentials.",
)
@PORT
@STRICT
@RESOLVE
@ENVOY
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="When ready, print a JSON object instead of a table. The access log goes to standard error then.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    envvar="MCP_EXTPROC_WORKERS",
    help="Number of worker processes: with one, all take about 70 MB, each further one 15 MB. Default: one for each core.",
)
@click.option("--check", "checks", is_flag=True, help="Run `check` first, and serve only if there are no problems.")
def run(
    file: Path | None,
    agents: tuple[str, ...],
    every: bool,
    mcp_config: Path | None,
    mcp_json: str | None,
    port: int | None,
    strict: bool,
    resolve: Mapping[str, str],
    envoy_path: str | None,
    as_json: bool,
    workers: int | None,
    checks: bool,
) -> None:
    """Serve FILE (mcp-servers.json, Kubernetes documents, or native YAML) on this machine: Envoy and the gateway, until
    Ctrl-C, or until the terminal is closed.

    Without FILE, it serves what agents on this machine have: it shows their servers, and asks. Their files are not changed.

    Changes of the files are applied without a restart. `kill -HUP` replaces the workers, one after the other. Neither loses a
    call.
    """
    from mcp_extproc.envoy.version import EnvoyTooOld
    from mcp_extproc.run.envoy_binary import EnvoyNotFound, supported_envoy
    from mcp_extproc.run.process import StartError

    if sum((file is not None, mcp_config is not None, mcp_json is not None, bool(agents), every)) > 1:
        raise click.UsageError("give one of FILE, --mcp-config, --mcp-json, --from and --all")
    chosen = _chosen(file or mcp_config, mcp_json, agents, every=every, strict=strict, resolve=resolve, as_json=as_json)
    source = StatusSource(OwnListenersSource(chosen))
    served = served_from(source, port)
    served.require_servers()
    try:
        # No spinner: it would be broken by the workers' log, and takes standard output for itself.
        _progress("Starting Envoy and the gateway")
        envoy = supported_envoy(envoy_path)
        if checks and not _checked(served, envoy):
            sys.exit(1)
        gateway = _gateway(source, served, envoy, workers or _cores(), port, as_json=as_json, has_checked=checks)
        asyncio.run(_run(gateway, as_json))
    except (EnvoyNotFound, EnvoyTooOld, StartError) as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:  # before the signal handlers are set: as after it
        sys.exit(0)


def _gateway(
    source: Source, served: Loaded, envoy: str, workers: int, port: int | None, *, as_json: bool, has_checked: bool
) -> StandaloneGateway:
    from mcp_extproc.run.session_secret import configured_secret

    secret = configured_secret(served.config, os.environ)
    show = _show_to_read() if sys.stdout.isatty() and not as_json else None
    # What a script reads has nothing else in it.
    output = sys.stderr.fileno() if as_json else None
    _append_to(sys.stdout, sys.stderr)
    nursery = None if has_checked else nursery_of(served)  # before any event loop, and `check` has had one
    from mcp_extproc.run.standalone import StandaloneGateway

    gateway = StandaloneGateway(source, served, envoy, secret, workers=workers, port=port, show=show, output=output)
    if nursery is not None:
        gateway.begin_with(nursery)
    return gateway


def _chosen(
    file: Path | None,
    text: str | None,
    agents: Collection[str],
    *,
    every: bool,
    strict: bool,
    resolve: Mapping[str, str],
    as_json: bool,
) -> Source:
    """What is to be served: a file, a text, or what agents on this machine have."""
    if text is not None:
        return EnvoysSource(TextSource(text, "mcp-json", os.environ, strict=strict))
    if file is not None:
        return EnvoysSource(FileSource(file, os.environ, strict=strict, resolve=resolve))
    return of_agents(agents, every=every, strict=strict, as_json=as_json)


def _checked(served: Loaded, envoy: str) -> bool:
    from rich.console import Console

    return serves_well(served, envoy, as_json=False, console=Console(stderr=True))


async def _run(gateway: StandaloneGateway, as_json: bool) -> None:
    stopped = until_told_to_stop(gateway.reload_soon)
    if not await has_started(gateway, stopped):
        return
    try:
        _progress("Connecting to the servers")
        announcing, ended = asyncio.create_task(announce(gateway, as_json)), asyncio.create_task(gateway.wait())
        await asyncio.wait({announcing, ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if announcing.done():
            announcing.result()
            give_back(mapped())  # from here on it only waits
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        announcing.cancel()
        if ended.done():
            await ended
        ended.cancel()
        with suppress(OSError):  # the terminal is closed
            click.secho("Stopping", dim=True, err=True)
    finally:
        await gateway.__aexit__(None, None, None)


def _progress(text: str) -> None:
    """Tell who waits at a terminal what for."""
    if sys.stderr.isatty():
        click.secho(text, dim=True, err=True)


def _append_to(*files: TextIO) -> None:
    """Have all writers of a file append to it. Envoy opens its standard output once more, and others would write over it."""
    for file in files:
        with suppress(OSError):  # it is closed
            fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)


def _show_to_read() -> Callable[[bytes], None]:
    """Prints what Envoy writes to its access log, one line for each request."""
    lines = AccessLines()

    def show(part: bytes) -> None:
        # Not by way of sys.stdout: whoever waits in there holds a lock that the interpreter needs to end.
        text = "".join(f"{line}\n" for line in lines.feed(part)).encode()
        while text:
            text = text[os.write(sys.stdout.fileno(), text) :]

    return show


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
