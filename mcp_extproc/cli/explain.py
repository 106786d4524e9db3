"""``explain``: what a caller may see and do, and which rule says so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcp_extproc.cli.checks import to_read
from mcp_extproc.cli.common import complain, escape, standard_output, warn
from mcp_extproc.cli.options import ENVOY, FILE, RESOLVE, STRICT
from mcp_extproc.config import EnvoysSource, FileSource, Loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_extproc.check.explain import Explainer, Explanation
    from mcp_extproc.gateway.principal import Principal


class _PrincipalType(click.ParamType["Principal"]):
    name = "PRINCIPAL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Principal:
        from mcp_extproc.check.explain import principal_of

        try:
            return principal_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@FILE
@click.option(
    "--as", "principal", type=_PrincipalType(), default="",
    help="Who calls, such as 'sub=alice scope=a,b groups=x claim.tenant=acme'. Default: an anonymous caller.",
)  # fmt: skip
@click.option("--endpoint", metavar="NAME", help="At this virtual server. Default: at the main endpoint.")
@click.option("--tool", help="Only this tool, by the name that clients use.")
@STRICT
@RESOLVE
@ENVOY
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def explain(
    file: Path,
    principal: Principal,
    endpoint: str | None,
    tool: str | None,
    strict: bool,
    resolve: Mapping[str, str],
    envoy_path: str | None,
    as_json: bool,
) -> None:
    """What a caller may see and do by the rules of FILE (`authorization`), and which rule says so.

    A temporary Envoy is started to read the servers' lists; not for a single tool, unless its annotations decide. Exit code 1:
    a list could not be read; 2: FILE is invalid.
    """
    from mcp_extproc.check.explain import Explainer, Explanation

    loaded = to_read(EnvoysSource(FileSource(file, os.environ, strict=strict, resolve=resolve)).load())
    loaded.require_servers()
    if endpoint is None and not loaded.config.main_endpoint:
        raise click.BadParameter("name a virtual server: there is no main endpoint", param_hint="--endpoint")
    if endpoint is not None and endpoint not in loaded.config.virtual_servers:
        raise click.BadParameter("no virtual server has this name", param_hint="--endpoint")
    explainer = Explainer(loaded.config, principal, endpoint or "")
    if tool is not None:
        found = explainer.of_name(tool)
        if found is None:
            complain("no server can have a tool of this name: none has its prefix, or a filter (`tools`) leaves it out")
            sys.exit(1)
        if not found.depends_on_annotations:
            _print(Explanation([found], []), as_json)
            return
    read = _read(loaded, explainer, envoy_path)
    if tool is not None:
        read = Explanation([one for one in read.items if (one.kind, one.name) == ("tools", tool)], read.unread)
    _print(read, as_json)
    sys.exit(1 if read.unread else 0)


def _read(loaded: Loaded, explainer: Explainer, envoy_path: str | None) -> Explanation:
    import asyncio

    from rich.console import Console

    from mcp_extproc.check.explain import read_lists
    from mcp_extproc.envoy.version import EnvoyTooOld
    from mcp_extproc.run.envoy_binary import EnvoyNotFound, supported_envoy
    from mcp_extproc.run.process import StartError

    with Console(stderr=True).status("Connecting to the servers") as shown:

        def tell_waiting(names: Sequence[str]) -> None:
            shown.update(escape(f"Waiting for {', '.join(names)}: still starting"))

        folder = Path(loaded.name).absolute().parent
        try:
            envoy = supported_envoy(envoy_path)
            surveyed = asyncio.run(read_lists(loaded.config, folder, envoy, tell_waiting))
        except (EnvoyNotFound, EnvoyTooOld, StartError) as error:
            complain(str(error))
            sys.exit(1)
    return explainer.of_lists(surveyed)


def _print(found: Explanation, as_json: bool) -> None:
    if as_json:
        with standard_output():
            click.echo(json.dumps(asdict(found)))
        return
    from rich.console import Console
    from rich.table import Table

    for text in found.unread:
        warn(text)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("server", "kind", "name", "verdict", "rule"):
        table.add_column(column, overflow="fold")
    for one in found.items:
        verdict = f"{one.verdict}: {' '.join(one.scopes)}" if one.scopes else one.verdict
        table.add_row(*(escape(text) for text in (one.server, one.kind, one.name, verdict, one.rule)))
    with standard_output():
        Console().print(table)
