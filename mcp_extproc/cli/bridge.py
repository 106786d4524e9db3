"""``bridge``: the stdio servers, for a gateway that runs elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.cli.common import complain, layout_in, serve_until_told_to_stop, served_from, warn
from mcp_extproc.cli.options import DIRECTORY, FILE, STRICT, AddressType
from mcp_extproc.config import FileSource, only_commands


@click.command()
@FILE
@click.option("--listen", type=AddressType(), help="Where Envoy connects. Default: bridge.sock.")
@DIRECTORY
@STRICT
def bridge(file: Path, listen: Address | None, directory: Path | None, strict: bool) -> None:
    """Run only the stdio servers of FILE, for `serve --bridge` elsewhere: in another container, say.

    Of FILE, only their entries, `limits` and `log` are read. Changes of it are applied.
    """
    from mcp_extproc.run.process import StartError
    from mcp_extproc.run.standing_bridge import StandingBridge

    source = FileSource(file, os.environ, strict=strict, part=only_commands)
    served = served_from(source, None)
    layout = layout_in(directory=directory, create=listen is None)
    layout = replace(layout, bridge=listen or layout.bridge)
    if not isinstance(layout.bridge, UnixAddress) and not layout.bridge.is_loopback:
        warn(
            f"{layout.bridge} can be reached from elsewhere, and whoever reaches it can use the servers as the gateway does"
        )
    serving = StandingBridge(source, served, layout)
    try:
        asyncio.run(serve_until_told_to_stop(serving, serving.reload_soon))
    except (StartError, OSError) as error:
        complain(str(error))
        sys.exit(1)
