"""Running the official conformance suite (`@modelcontextprotocol/conformance` on npm) and reading what it found."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.results import Check, Run
from tests.support.npm import node, package
from tests.support.processes import program

RUN_SECONDS = 600.0
"""Deadline of a run. A run in which all goes well takes two seconds; each stream that never delivers costs 30."""

CLIENT_SECONDS = 180.0
"""After which the suite kills a client, and nobody would end the gateway that this has started."""


class SuiteError(Exception):
    """The suite itself did not work; says nothing about the server. ``str()`` ends with what the suite printed."""


async def server_run(url: str, version: str, directory: Path, scenario: str | None = None) -> Run:
    """Test a server.

    Args:
        url: its MCP endpoint, on localhost, 127.0.0.1 or [::1] (the suite leaves out checks of any other host).
        version: the revision of the specification whose scenarios are run, all of them.
        directory: an empty or new one, for the suite's files.
        scenario: only this one.

    Raises:
        SuiteError: the suite ran into its deadline or left no results.
    """
    which = ["--scenario", scenario] if scenario else ["--suite", "all"]
    await _suite(["server", "--url", url, *which, "--spec-version", version, "-o", str(directory)], directory)
    return read(directory, prefix="server-")


async def client_run(command: Sequence[str], scenario: str, version: str, directory: Path) -> Run:
    """Test a client: the suite is the server, and starts the command with its URL as one more argument.

    A client that fails or is killed (the suite only prints so) adds a FAILURE to the scenario's checks.

    Raises:
        SuiteError: the suite ran into its deadline or left no results.
    """
    arguments = ["--command", shlex.join(command), "--scenario", scenario, "--spec-version", version,
                 "--timeout", f"{CLIENT_SECONDS * 1000:.0f}"]  # fmt: skip
    await _suite(["client", *arguments, "-o", str(directory)], directory)
    run = read(directory)
    printed = _log(directory).read_text()
    if "Client exited with code" not in printed and "Client timed out" not in printed:
        return run
    [errors] = directory.glob("*/stderr.txt")
    last_line = errors.read_text().strip().rpartition("\n")[2]
    failed = Check("client-ends-well", "ClientEndsWell", "FAILURE", f"{last_line} (more in {errors})")
    return Run({scenario: [*run.scenarios[scenario], failed]})


def read(directory: Path, prefix: str = "") -> Run:
    """What a run left: for each scenario a folder named after it and the time, in it ``checks.json``.

    Args:
        directory: the run's ``-o``.
        prefix: what the folders' names have before the scenario's.
    """
    scenarios: dict[str, list[Check]] = {}
    for file in sorted(directory.glob("*/checks.json")):
        name = re.fullmatch(rf"{prefix}(.+?)-\d{{4}}-\d\d-\d\dT[\d-]+Z", file.parent.name)
        assert name, f"not the name of a scenario's folder: {file.parent}"
        assert name[1] not in scenarios, f"{directory} holds more than one run of {name[1]}"
        scenarios[name[1]] = [_check(entry) for entry in json.loads(file.read_text())]
    return Run(scenarios)


def _check(entry: dict[str, Any]) -> Check:
    return Check(
        entry["id"], entry["name"], entry["status"], str(entry.get("errorMessage") or ""), entry.get("details")
    )


async def _suite(arguments: Sequence[str], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    log = _log(directory)
    script = package("@modelcontextprotocol/conformance") / "dist" / "index.js"
    async with program([node(), str(script), *arguments], log=log) as process:
        try:
            # The exit status tells of failed checks, which the results tell better.
            await asyncio.wait_for(process.wait(), RUN_SECONDS)
        except TimeoutError:
            raise SuiteError(f"The suite did not end within {RUN_SECONDS:g} s:\n{log.read_text()[-2000:]}") from None
    if not any(directory.glob("*/checks.json")):
        raise SuiteError(f"The suite left no results:\n{log.read_text()[-2000:]}")


def _log(directory: Path) -> Path:
    """What the suite printed, beside the scenarios' folders."""
    return directory / "suite.log"
