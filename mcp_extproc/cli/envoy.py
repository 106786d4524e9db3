"""``envoy …``: Envoy's configuration for a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.cli.common import config_from, load_file, meeting, standard_output, text_of, warn, warn_of_collector
from mcp_extproc.cli.options import (
    BATCHES,
    BRIDGE,
    COLLECTOR,
    CONFIG,
    EXTPROC,
    FILE,
    PORT,
    READING_ENVOY,
    READING_ENVOY_VERSION,
    REPAIR,
    RESOLVE,
    UPSTREAMS,
    WORKERS,
    AddressType,
)
from mcp_extproc.config import ConfigError
from mcp_extproc.config.own_listener import check_own_listener

if TYPE_CHECKING:
    from mcp_extproc.config import GatewayConfig
    from mcp_extproc.config.config_error import Problem
    from mcp_extproc.envoy.layout import ExtprocTls


@click.group()
def envoy() -> None:
    """Envoy's configuration for a gateway."""


@envoy.command("bootstrap")
@FILE
@PORT
@WORKERS
@EXTPROC
@UPSTREAMS
@REPAIR
@BATCHES
@BRIDGE
@COLLECTOR
@RESOLVE
@click.option("--extproc-ca", metavar="FILE", help="Use TLS to `serve`, whose certificate is issued by this CA.")
@click.option("--extproc-sni", metavar="NAME", help="The name in that certificate. Default: the HOST of --extproc.")
@click.option(
    "--extproc-client-certificate", metavar="FILE", help="Envoy's client certificate, for `serve --tls-client-ca`."
)
@click.option("--extproc-client-key", metavar="FILE", help="Private key of the client certificate.")
@click.option("--admin", type=AddressType(), help="Envoy's admin interface. Default: none.")
@READING_ENVOY
@READING_ENVOY_VERSION
def envoy_bootstrap(
    file: Path,
    port: int | None,
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    repair: Address | None,
    batches: Address | None,
    bridge: Address | None,
    collector: Address | None,
    resolve: Mapping[str, str],
    extproc_ca: str | None,
    extproc_sni: str | None,
    extproc_client_certificate: str | None,
    extproc_client_key: str | None,
    admin: Address | None,
) -> None:
    """Print a complete Envoy bootstrap (JSON) for FILE. It contains no secrets: the worker sends them.

    The files in --extproc-ca and so on are read by Envoy, and need not exist here.
    """
    from mcp_extproc.envoy.render import own_certificates
    from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json

    layout = meeting(workers, extproc, upstreams, batches, bridge, collector)
    tls = _extproc_tls(extproc, extproc_ca, extproc_client_certificate, extproc_client_key, extproc_sni)
    layout = replace(layout, repair=repair or layout.repair, admin=admin, extproc_tls=tls)
    served = load_file(file, port, bridge, resolve)
    served.require_servers()
    if served.config.collects:
        warn_of_collector(layout.collector, is_verified=extproc_client_certificate is not None)
    check_own_listener(served.config, str(file))
    of_listener = own_certificates.of_listener(served.config)
    _check_alone(served.config, str(file), *own_certificates.needing_files(of_listener))
    if any(section.api_keys is not None for _, section in served.config.authentications()):
        warn(_KEYS_TO_ADD)
    with standard_output():
        click.echo(to_json(bootstrap(served.config, layout)), nl=False)


_KEYS_TO_ADD = (
    "authentication.api_keys: what is printed has no keys, and refuses all. Add `credentials: [{key: KEY, client: NAME}]` to"
    " mcp_api_key_auth (for a virtual server's own keys mcp_api_key_auth/NAME) in typed_per_filter_config of each virtual host"
    " that has it, or have `mcp-extproc serve --envoy-config`"
    " write the configuration, with the keys and each change of them"
)


def _extproc_tls(
    extproc: tuple[Address, ...], ca: str | None, certificate: str | None, key: str | None, sni: str | None
) -> ExtprocTls | None:
    """The TLS options as one value.

    Raises:
        UsageError: the combination is invalid.
    """
    from mcp_extproc.envoy.layout import ExtprocTls

    if ca is None and certificate is None and key is None and sni is None:
        return None
    if ca is None:
        raise click.UsageError("TLS to the workers needs their CA: --extproc-ca is missing")
    if (certificate is None) != (key is None):
        missing = "--extproc-client-certificate" if certificate is None else "--extproc-client-key"
        raise click.UsageError(f"Envoy's certificate needs its key: {missing} is missing")
    if not extproc or not all(isinstance(address, TcpAddress) for address in extproc):
        raise click.UsageError("TLS requires workers at --extproc HOST:PORT, not Unix sockets")
    return ExtprocTls(ca, certificate, key, sni)


@envoy.command("attach")
@CONFIG
@click.argument("existing", type=click.File(encoding="utf-8"))
@click.option("--listener", metavar="NAME", help="The listener for clients, if there are several.")
@click.option("--filter-chain", metavar="NAME", help="Its filter chain, if several route HTTP requests.")
@click.option(
    "--virtual-host",
    "virtual_hosts",
    metavar="NAME",
    multiple=True,
    help="The virtual host for the MCP endpoint, if there are several. May be given more than once.",
)
@click.option(
    "--pass-through",
    metavar="ROUTE_OR_PREFIX",
    multiple=True,
    help="A route to an MCP server whose requests are inspected for policies: its name, or the path or prefix that it"
    " matches. May be given more than once.",
)
@click.option(
    "--pass-through-host",
    "pass_through_hosts",
    metavar="NAME",
    multiple=True,
    help="The same for all routes of a virtual host.",
)
@click.option(
    "--without-jwt-authn",
    is_flag=True,
    help="Turn jwt_authn filters of the listener off for the MCP endpoint, where authentication.oauth verifies tokens.",
)
@WORKERS
@EXTPROC
@UPSTREAMS
@BATCHES
@BRIDGE
@COLLECTOR
@RESOLVE
@READING_ENVOY
@READING_ENVOY_VERSION
def envoy_attach(
    config: Path,
    existing: TextIO,
    listener: str | None,
    filter_chain: str | None,
    virtual_hosts: tuple[str, ...],
    pass_through: tuple[str, ...],
    pass_through_hosts: tuple[str, ...],
    without_jwt_authn: bool,
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
    bridge: Address | None,
    collector: Address | None,
    resolve: Mapping[str, str],
) -> None:
    """Print EXISTING, an Envoy bootstrap in YAML or JSON, with the gateway added to a listener.

    Everything else is unchanged, except for YAML comments and aliases. The parts of an earlier `attach` are replaced, so it
    can be repeated after each change of the gateway's configuration. `-` reads standard input.
    """
    from mcp_extproc.envoy.attach.endpoint import attach
    from mcp_extproc.envoy.attach.target import Choice

    layout = meeting(workers, extproc, upstreams, batches, bridge, collector)
    choice = Choice(listener, filter_chain, virtual_hosts, pass_through, pass_through_hosts, without_jwt_authn)
    read = config_from(config, None, bridge, resolve)
    _check_alone(read, str(config))
    if read.collects:
        warn_of_collector(layout.collector, is_verified=False)
    attached = attach(text_of(existing), existing.name, read, layout, choice)
    for warning in attached.warnings:
        warn(warning)
    with standard_output():
        click.echo(attached.text, nl=False)


_UNSEEN_TLS = (
    "authentication.mtls: what the TLS of your listener verifies can't be seen here, and unverified certificates would name"
    " callers. Use `mcp-extproc envoy attach`, which looks at it, or take the caller from metadata that a filter of yours"
    " writes, with authentication.existing"
)


@envoy.command("fragments")
@CONFIG
@WORKERS
@EXTPROC
@UPSTREAMS
@BATCHES
@BRIDGE
@COLLECTOR
@RESOLVE
@READING_ENVOY
@READING_ENVOY_VERSION
def envoy_fragments(
    config: Path,
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
    bridge: Address | None,
    collector: Address | None,
    resolve: Mapping[str, str],
) -> None:
    """Print the parts that `attach` adds, as YAML with comments about where to paste them."""
    from mcp_extproc.envoy.attach.fragments import fragments

    read = config_from(config, None, bridge, resolve)
    _check_alone(read, str(config))
    if any(section.mtls is not None for _, section in read.authentications()):
        raise ConfigError(str(config), [_UNSEEN_TLS])
    layout = meeting(workers, extproc, upstreams, batches, bridge, collector)
    if read.collects:
        warn_of_collector(layout.collector, is_verified=False)
    with standard_output():
        click.echo(fragments(read, layout), nl=False)


def _check_alone(config: GatewayConfig, name: str, *more: Problem) -> None:
    """Check that an Envoy which others start needs nothing of ours beside it.

    Args:
        config: the whole configuration.
        name: of its file, for errors.
        more: of what else it needs.

    Raises:
        ConfigError: it does.
    """
    from mcp_extproc.envoy.render import client_credentials, own_certificates
    from mcp_extproc.envoy.render.authentication.filters import check_without_supervisor

    check_without_supervisor(config, name)
    servers = own_certificates.needing_files(own_certificates.of_servers(config))
    if problems := [*client_credentials.needing_files(config), *servers, *more]:
        raise ConfigError(name, problems)
