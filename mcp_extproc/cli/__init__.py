"""The commands. Output for people uses rich; ``--json`` is for scripts.

Exit codes: 0 success, 1 the gateway failed, 2 the command line or the configuration is invalid.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mcp_extproc import __version__
from mcp_extproc.cli import bridge, checks, envoy, run, serve
from mcp_extproc.cli.common import complain
from mcp_extproc.config import ConfigError

# Importing Envoy's configuration types takes half a second, gRPC and rich a tenth each, so each command imports only what it
# needs: a worker above all, as a restart is as long as its imports.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="mcp-extproc", standalone_mode=True)
    except ConfigError as error:
        complain(str(error))
        sys.exit(2)
    except OSError as error:  # a full disk, say
        complain(str(error))
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-extproc")
def cli() -> None:
    """An MCP gateway as an Envoy external processor: one endpoint for many MCP servers."""


for _command in (
    run.run, serve.serve, serve.worker, bridge.bridge, bridge.bridge_process, serve.health,
    checks.validate, checks.check, envoy.envoy, checks.schema,
):  # fmt: skip
    cli.add_command(_command)
