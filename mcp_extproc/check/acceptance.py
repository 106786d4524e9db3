"""Whether Envoy takes the whole configuration: the clients' listener, its routes and filters, too. Nothing is opened."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from mcp_extproc.check.tool_names import Problem
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.own_listener import certificates_without_tls
from mcp_extproc.envoy.files import BOOTSTRAP, File, write
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.run.envoy_binary import command
from mcp_extproc.run.envoy_log import complaint, ended
from mcp_extproc.run.process import START_SECONDS, StartError, end, spawn


async def problems(config: GatewayConfig, envoy: str) -> list[Problem]:
    """One where Envoy rejects it.

    Args:
        config: the whole configuration.
        envoy: the Envoy binary.

    Raises:
        StartError: Envoy does not end, or a signal ends it.
        OSError: its file can't be written.
    """
    if certificates_without_tls(config):
        return []  # It is for a listener that others own.
    with tempfile.TemporaryDirectory(prefix="mcp-extproc-") as place:
        directory = Path(place)
        file, log = directory / BOOTSTRAP, directory / "envoy.log"
        write(directory, File(BOOTSTRAP, to_json(bootstrap(config, Layout.in_directory(directory))).encode()))
        with log.open("wb") as output:
            process = await spawn(
                [*command(envoy, file), "--mode", "validate", "--log-level", "error"],
                stdout=asyncio.subprocess.DEVNULL, stderr=output.fileno(),
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                code = await process.wait()
        except TimeoutError:
            raise StartError(
                f"Envoy did not say within {START_SECONDS:g} s whether it takes the configuration"
            ) from None
        finally:
            await end(process)
        if code < 0:
            raise StartError(f"Envoy read the configuration, and ended with {ended(code, log)}")
        why = complaint(log)
    text = why.partition(f"'{file}': ")[2] or why
    return [Problem("envoy_rejects", None, f"Envoy rejects the configuration: {text}")] if code else []
