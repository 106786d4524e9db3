"""What ``run`` says once it serves: the table of servers, and what becomes of those that are still starting then."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from mcp_extproc.cli.common import escape, place_of, standard_output
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import Endpoint, endpoints, shown
from mcp_extproc.config.model import start_of
from mcp_extproc.telemetry import log

if TYPE_CHECKING:
    from mcp_extproc.run.standalone import StandaloneGateway
    from mcp_extproc.telemetry.collector.spec import CollectorSpec
    from mcp_extproc.upstreams.probe import ServerStatus

_LOG = log.logger("run")


async def announce(gateway: StandaloneGateway, as_json: bool) -> None:
    """Ask the servers and tell what they are. Returns once none is starting any more."""
    from mcp_extproc.check.causes import causes
    from mcp_extproc.upstreams.probe import probe

    config, why = gateway.config, partial(causes, gateway.stats)
    statuses, _ = await asyncio.gather(probe(config, gateway.layout.upstreams, why), gateway.transports_found())
    if gateway.config is not config:
        config = gateway.config
        statuses = await probe(config, gateway.layout.upstreams, why)
    await gateway.learn(config, statuses)
    places = {one.name: place_of(gateway.url_of(one), one.told_headers) for one in endpoints(config)}
    url = gateway.url
    status, collector = gateway.status_url, gateway.collector_spec
    _tell(
        lambda: (
            _print_json(url, status, collector, places, statuses)
            if as_json
            else _print_table(config, url, status, collector, places, statuses)
        )
    )
    starting = [status.name for status in statuses if status.state == "starting"]
    await asyncio.gather(*(_follow(gateway, config, name, as_json) for name in starting))


async def _follow(gateway: StandaloneGateway, config: GatewayConfig, name: str, as_json: bool) -> None:
    """Tell whether a server has started, unless the file has changed meanwhile so that it is another one."""
    from mcp_extproc.upstreams.probe import probe_started

    status = await probe_started(config, gateway.layout.upstreams, name)
    if gateway.config.servers.get(name) != config.servers[name]:
        return
    await gateway.learn(gateway.config, [status])
    _tell(lambda: click.echo(json.dumps({"server": asdict(status)})) if as_json else _print_line(status))


def _tell(write: Callable[[], object]) -> None:
    """It serves, whether or not anybody can be told."""
    try:
        with standard_output():
            write()
    except OSError as error:
        log.event(_LOG, logging.WARNING, "not_announced", {"why": str(error)})


def _print_json(
    url: str,
    status: str | None,
    collector: CollectorSpec | None,
    places: Mapping[str, str],
    statuses: Sequence[ServerStatus],
) -> None:
    virtual = {name: place for name, place in places.items() if name}
    told = {"url": url, "servers": [asdict(one) for one in statuses]}
    page = {} if status is None else {"status_page": status}
    sent = {} if collector is None or not (found := collector.destinations) else {"telemetry": found}
    click.echo(json.dumps({**told, **page, **sent, **({"virtual_servers": virtual} if virtual else {})}))


def _print_line(status: ServerStatus) -> None:
    from rich.console import Console

    if status.problem is None:
        count = f"{status.tools} tool{'' if status.tools == 1 else 's'}"
        line = f"[green]{escape(status.name)} is ready[/]: {count}, protocol {status.version}"
    else:
        word = "[yellow]is still starting[/]" if status.state == "starting" else "[red]failed[/]"
        line = f"{escape(status.name)} {word}: {escape(f'{status.address} {status.problem}')}"
    Console().print(line, highlight=False, soft_wrap=True)


def _print_table(
    config: GatewayConfig,
    url: str,
    page: str | None,
    collector: CollectorSpec | None,
    places: Mapping[str, str],
    statuses: Sequence[ServerStatus],
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("server", "state", "protocol", "tools", "prefix"):
        table.add_column(column, justify="right" if column == "tools" else "left", overflow="fold")
    for status in statuses:
        tools = "-" if status.tools is None else str(status.tools)
        prefix = start_of(status.name, config.servers[status.name], config.separator) or "(none)"
        table.add_row(status.name, _state(status), status.version or "-", tools, prefix)
    console = Console()
    console.print(table)
    if any(status.state == "starting" for status in statuses):
        console.print("\nWhat is starting is served as soon as it is ready.", style="yellow")
    console.print(f"\nServing at [bold]{places['']}[/]" if "" in places else "", highlight=False)
    for name, place in places.items():
        if name:
            console.print(f"Virtual server {escape(name)} at [bold]{escape(place)}[/]", highlight=False, soft_wrap=True)
    if page is not None:
        console.print(
            f"Status page at [bold]{page}[/], or in a terminal: mcp-extproc top", highlight=False, soft_wrap=True
        )
    if collector is not None and (sentence := destinations(collector, page)):
        console.print(escape(sentence), highlight=False, soft_wrap=True)
    command = adding(shown(config), url)
    console.print(f"Add it to an agent:  {escape(command)}", highlight=False, soft_wrap=True)
    console.print("Ctrl-C ends it.", style="dim")


def destinations(collector: CollectorSpec, page: str | None) -> str:
    """Where traces, metrics, the access log and the audit go; empty where nothing is on. A variable may have turned it on, or
    one that is misspelt not."""
    found = collector.destinations
    part = f" ({collector.ratio * 100:g} % of them)" if collector.ratio < 1 else ""
    scraped = found.get("metrics_address")
    if scraped is None and page is not None and collector.page is not None and collector.page.has_metrics:
        scraped = page.removeprefix("http://").rstrip("/")
    words = [
        (f"traces{part} to", found.get("traces")),
        ("metrics at", scraped and f"http://{scraped}/metrics"),
        ("metrics to", found.get("metrics")),
        ("access log to", found.get("logs")),
        ("audit in", found.get("audit_file")),
        ("audit to", found.get("audit")),
    ]
    sentence = ", ".join(f"{what} {where}" for what, where in words if where)
    return sentence[:1].upper() + sentence[1:]


def adding(endpoint: Endpoint, url: str) -> str:
    """The command that adds an endpoint to an agent, with the headers that its requests have to have."""
    headers = [f"{name}: {value}" for name, value in endpoint.headers.items() if isinstance(value, str)]
    if (authentication := endpoint.authentication) is not None and not authentication.anonymous:
        keys = authentication.api_keys
        # Agents log in by themselves where there is somebody to log in at.
        if keys is not None and authentication.oauth is None and (header := keys.sources[0].header) is not None:
            headers.append(f"{header}: {'Bearer ' if header == 'authorization' else ''}YOUR-KEY")
    words = ["claude", "mcp", "add", "--transport", "http", "gateway", url]
    return shlex.join(words + [word for header in headers for word in ("--header", header)])


def _state(status: ServerStatus) -> str:
    if status.problem is None:
        return "[green]ready[/]"
    if status.state == "starting":
        return "[yellow]starting[/]"
    color = "yellow" if status.state == "unknown" else "red"
    return f"[{color}]{escape(f'{status.address} {status.problem}')}[/]"
