"""The commands. Output for people uses rich; ``--json`` is for scripts.

Exit codes: 0 success, 1 the gateway failed, 2 the command line or the configuration is invalid; of ``call`` also 3: the tool
reports an error.
"""

from __future__ import annotations

import gc
import sys
from collections import UserDict
from collections.abc import Sequence
from importlib import import_module

import click

from mcp_extproc import __version__

# Imports are most of a start, and of a restart: gRPC and rich take a tenth of a second each, the configuration's model two. So
# each command imports only what it needs.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="mcp-extproc", standalone_mode=True)
    except Exception as error:
        from mcp_extproc.cli.common import complain
        from mcp_extproc.config import ConfigError

        # Of the system's: a full disk, say.
        if not isinstance(error, ConfigError | OSError):
            raise
        complain(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)


class _Commands(UserDict[str, click.Command]):
    """Commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        if name in _BRIEF:
            # Next to nothing of what is imported is garbage, and looking for it takes a tenth of the command's time.
            gc.disable()
        module = import_module(f"{__name__}.{_MODULES[name]}")
        if name in _BRIEF:
            gc.freeze()  # nor is the interpreter to look at its end
            gc.enable()
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command


_MODULES = {
    "run": "run", "serve": "serve", "worker": "serve", "nursery": "serve", "health": "serve",
    "bridge": "bridge", "bridge-process": "bridge_process",
    "collector-process": "collector_process", "validate": "checks", "check": "checks", "schema": "checks",
    "explain": "explain", "convert": "convert",
    "envoy": "envoy", "tools": "tools", "call": "tools", "top": "top",
}  # fmt: skip
"""Where each command is, under its name."""

_BRIEF = {"validate", "schema", "explain", "convert"}
"""Commands that read a file, and are over."""


@click.group(commands=_Commands.fromkeys(_MODULES), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-extproc")
def cli() -> None:
    """An MCP gateway as an Envoy external processor: one endpoint for many MCP servers."""
