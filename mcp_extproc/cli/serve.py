"""``serve``, ``worker`` and ``health``: the workers, behind an Envoy that runs separately."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.cli.common import (
    complain,
    layout_in,
    made,
    part_beside,
    serve_until_told_to_stop,
    served_from,
    warn_of_collector,
)
from mcp_extproc.cli.options import (
    BATCHES,
    BRIDGE,
    COLLECTOR,
    DIRECTORY,
    DRAIN_SECONDS,
    FILE,
    LISTEN,
    PORT,
    REPAIR,
    RESOLVE,
    STRICT,
    TLS_CERTIFICATE,
    TLS_CLIENT_CA,
    TLS_KEY,
    TRANSPORT,
    UPSTREAMS,
    AddressType,
)
from mcp_extproc.config import FileSource, GatewayConfig, Loaded, Source, loads, whole
from mcp_extproc.config import without_programs as programs_elsewhere
from mcp_extproc.config.own_listener import OwnListenersSource
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.telemetry import log

if TYPE_CHECKING:
    from mcp_extproc.envoy.layout import Layout
    from mcp_extproc.extproc.certificates import TlsFiles
    from mcp_extproc.run.nursery import Forked


WORKER = "mcp-worker"
"""What ps(1) calls a worker of several."""


@click.command()
@FILE
@STRICT
@RESOLVE
@LISTEN
@UPSTREAMS
@BATCHES
@BRIDGE
@COLLECTOR
@TRANSPORT
@TLS_CERTIFICATE
@TLS_KEY
@TLS_CLIENT_CA
@DRAIN_SECONDS
@DIRECTORY
@REPAIR
@PORT
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Number of worker processes. They are restarted if they end, and replaced one after the other on SIGHUP. Default: "
    "only this process.",
)
@click.option(
    "--envoy-config",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write Envoy's configuration into this directory, and apply changes of FILE without a restart. Start Envoy with "
    "`-c DIRECTORY/envoy.json`; it needs the directory under the same path. The default sockets are there, too.",
)
def serve(
    file: Path,
    strict: bool,
    resolve: Mapping[str, str],
    listen: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
    bridge: Address | None,
    collector: Address | None,
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
    source: Source = FileSource(file, os.environ, strict=strict, part=part_beside(bridge), resolve=resolve)
    if envoy_config is not None:
        source = OwnListenersSource(source)
    served = served_from(source, port)
    if envoy_config is not None:
        served.require_servers()
    default = layout_in(workers or 1, directory=directory or envoy_config)
    layout = replace(
        default,
        extproc=listen or default.extproc,
        upstreams=upstreams or default.upstreams,
        repair=repair or default.repair,
        batches=batches or default.batches,
        bridge_elsewhere=bridge,
        collector=collector or default.collector,
    )
    tls = _tls_files(layout.extproc, tls_certificate, tls_key, tls_client_ca)
    if served.config.collects:
        warn_of_collector(layout.collector, is_verified=tls is not None and tls.client_ca is not None)
    is_alone = workers is None and envoy_config is None and len(layout.extproc) == 1
    if is_alone and not _needs_others(served.config, bridge):
        where = layout.extproc[0]
        _work(served.config, where, layout.upstreams, layout.batches, transport, tls, drain_seconds)
    else:
        _supervise(source, served, layout, transport, tls, envoy_config, port, drain_seconds)


def _needs_others(config: GatewayConfig, bridge: Address | None) -> bool:
    """Whether a worker needs a process besides: a collector, or a bridge that is not elsewhere already."""
    bridged = [server for server in config.servers.values() if server.is_bridged]
    return config.collects or any(server.command is None or bridge is None for server in bridged)


def _supervise(
    source: Source,
    served: Loaded,
    layout: Layout,
    transport: str,
    tls: TlsFiles | None,
    envoy_config: Path | None,
    port: int | None,
    drain_seconds: float | None,
) -> None:
    """Serve with other processes, of which this one is the supervisor. Blocks."""
    from mcp_extproc.run.process import LEAVING_SECONDS, StartError

    config_directory = made(envoy_config) if envoy_config is not None else None
    try:
        options = _for_workers(transport, tls, LEAVING_SECONDS if drain_seconds is None else drain_seconds)
        nursery = nursery_of(served) if transport == "http2" else None
        asyncio.run(_serve(source, served, nursery, layout, options, tls, config_directory, port, drain_seconds))
    except (StartError, OSError) as error:
        complain(str(error))
        sys.exit(1)


async def _serve(
    source: Source,
    served: Loaded,
    nursery: Forked | None,
    layout: Layout,
    options: Sequence[str],
    tls: TlsFiles | None,
    envoy_config: Path | None,
    port: int | None,
    drain_seconds: float | None,
) -> None:
    from mcp_extproc.run.nursery import Nurseries, Programs
    from mcp_extproc.run.process import DRAIN_SECONDS
    from mcp_extproc.run.session_secret import session_secret
    from mcp_extproc.run.workers import Workers

    environment = {SECRET_VARIABLE: session_secret(served.config, os.environ)}
    starter: Nurseries | Programs
    if nursery is None:
        starter = Programs(environment)
    else:
        starter = Nurseries(environment)
        starter.begin_with(nursery)
    stop_seconds = DRAIN_SECONDS if drain_seconds is None else drain_seconds
    serving = Workers(
        source, served, starter, layout, options, tls, envoy_config, port, stop_seconds, inherits=nursery is not None
    )
    await serve_until_told_to_stop(serving, serving.reload_soon)


@click.command(hidden=True)
@click.argument("name")
@click.option("--listen", type=AddressType(), help="Where to listen.")
@click.option("--inherited", type=int, metavar="DESCRIPTOR", help="A listening socket.")
@click.option("--sse", metavar="SERVER", multiple=True, help="A server that was found to speak HTTP+SSE.")
@click.option("--status", help="Where there is a status page of which the text does not say anything.")
@click.option("--without-programs", is_flag=True, help="stdio servers are started elsewhere.")
@click.option("--ready", type=int, metavar="DESCRIPTOR", required=True, help="Receives a byte once the worker serves.")
@click.option("--reports", type=int, metavar="DESCRIPTOR", help="A socket to the collector.")
@UPSTREAMS
@BATCHES
@TRANSPORT
@TLS_CERTIFICATE
@TLS_KEY
@TLS_CLIENT_CA
@DRAIN_SECONDS
@click.pass_obj
def worker(
    served: Loaded | None,
    name: str,
    listen: Address | None,
    inherited: int | None,
    sse: tuple[str, ...],
    status: str | None,
    without_programs: bool,
    ready: int,
    reports: int | None,
    upstreams: Address,
    batches: Address,
    transport: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    drain_seconds: float | None,
) -> None:
    """One worker of `run` or `serve`. It reads its configuration from standard input; NAME is the file's name. A nursery has
    read it before."""
    from mcp_extproc.processes import be_named

    be_named(WORKER)
    config = (served or _told(name, sse, status, without_programs)).config
    log.configure(config.log.level, config.log.format, calm=True)

    def tell() -> None:
        os.write(ready, b"1")
        os.close(ready)

    tls = _tls_files((), tls_certificate, tls_key, tls_client_ca)
    where = listen or socket.socket(fileno=inherited)
    collector = None if reports is None else socket.socket(fileno=reports)
    _work(config, where, upstreams, batches, transport, tls, drain_seconds, tell, collector)


@click.command(hidden=True)
@click.argument("name")
@click.option("--sse", metavar="SERVER", multiple=True, help="A server that was found to speak HTTP+SSE.")
@click.option("--status", help="Where there is a status page of which the text does not say anything.")
@click.option("--without-programs", is_flag=True, help="stdio servers are started elsewhere.")
@click.option("--connection", type=int, metavar="DESCRIPTOR", required=True, help="The supervisor's socket.")
def nursery(name: str, sse: tuple[str, ...], status: str | None, without_programs: bool, connection: int) -> None:
    """What workers are forked from. It reads their configuration from standard input; NAME is the file's name."""
    from mcp_extproc.run import nursery as process

    served = _told(name, sse, status, without_programs)
    process.serve(socket.socket(fileno=connection), work_of(served), os.getppid())


def nursery_of(served: Loaded) -> Forked:
    """What the first workers are forked from: a fork of this process, before it has an event loop.

    What both need is imported before, and is in memory once. What only one of them needs it imports itself, afterwards: what
    stands beside memory that one of them writes to would be there twice.
    """
    from mcp_extproc.run.nursery import Forked
    from mcp_extproc.upstreams import probe  # noqa: F401

    return Forked(served, partial(work_of, served))


def work_of(served: Loaded) -> Callable[[Sequence[str]], object]:
    """A worker's life, in a fork of this process."""
    from mcp_extproc.run import worker as imported_before_any_fork  # noqa: F401

    if served.config.collects:
        from mcp_extproc.run import reporter  # noqa: F401

    def work(arguments: Sequence[str]) -> None:
        worker.main([served.name, *arguments], standalone_mode=False, obj=served)

    return work


def _told(name: str, sse: Collection[str], status: str | None, without_programs: bool) -> Loaded:
    part = programs_elsewhere if without_programs else whole
    return loads(sys.stdin.buffer.read().decode(), name, os.environ, part=part).with_sse(sse).with_status(status)


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
    collector: socket.socket | None = None,
) -> None:
    from mcp_extproc.pem import TlsError
    from mcp_extproc.run.process import DRAIN_SECONDS
    from mcp_extproc.run.worker import WorkerOptions
    from mcp_extproc.run.worker import serve as serve_worker

    seconds = DRAIN_SECONDS if drain_seconds is None else drain_seconds
    options = WorkerOptions(listen, upstreams, batches, transport, tls, seconds, collector)
    try:
        serve_worker(config, options, on_ready)
    except TlsError as error:
        complain(f"TLS can't be served: {error}")
        sys.exit(2)
    except OSError as error:
        complain(str(error))
        sys.exit(1)


def _tls_files(
    listen: Sequence[Address], certificate: Path | None, key: Path | None, client_ca: Path | None
) -> TlsFiles | None:
    """The TLS options as one value.

    Raises:
        UsageError: the combination is invalid.
    """
    from mcp_extproc.extproc.certificates import TlsFiles

    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        missing = "--tls-certificate" if certificate is None else "--tls-key"
        raise click.UsageError(f"TLS needs a certificate and its key: {missing} is missing")
    if any(isinstance(address, UnixAddress) for address in listen):
        raise click.UsageError(
            "TLS requires --listen HOST:PORT. A Unix socket is accessible only to its owner, and needs no TLS."
        )
    return TlsFiles(certificate, key, client_ca)


@click.command()
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1, type=AddressType())
@DIRECTORY
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    envvar="MCP_EXTPROC_WORKERS",
    help="Number of workers at the default addresses, if no ADDRESS is given.",
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=2.0, help="Seconds to wait for each. Default: 2."
)
@click.option(
    "--bridge", type=AddressType(), help="Check a bridge, at its `--listen`. Then no worker, unless at an ADDRESS."
)
def health(
    addresses: tuple[Address, ...], directory: Path | None, workers: int, timeout: float, bridge: Address | None
) -> None:
    """Check whether the workers at each ADDRESS accept requests: exit code 0 if all do, otherwise 1.

    For a container's health check. ADDRESS is unix:PATH or HOST:PORT, as for `serve --listen`.
    """
    from mcp_extproc.run.health import report

    if not addresses and bridge is None:
        addresses = layout_in(workers, create=False, directory=directory).extproc
    sys.exit(report(addresses, bridge, timeout))
