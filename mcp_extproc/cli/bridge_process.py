"""``bridge-process``: the process behind ``run``, ``serve`` and ``bridge``. Nothing here reads a configuration."""

from __future__ import annotations

import socket

import click

from mcp_extproc.telemetry import log


@click.command(hidden=True)
@click.option("--inherited", type=int, metavar="DESCRIPTOR", required=True, help="A listening socket.")
@click.option(
    "--answers", type=int, metavar="DESCRIPTOR", required=True, help="Receives a line for each on standard input."
)
@click.option("--log-level")
@click.option("--log-format")
def bridge_process(inherited: int, answers: int, log_level: str | None, log_format: str | None) -> None:
    """The process behind `run`, `serve` and `bridge` that has the servers. It is told of them on standard input."""
    from mcp_extproc.bridge.main import serve

    log.configure(log_level, log_format, calm=True)
    serve(socket.socket(fileno=inherited), answers)
