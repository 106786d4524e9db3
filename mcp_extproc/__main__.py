"""The program: ``mcp-extproc``, or ``python -m mcp_extproc``."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence

from mcp_extproc import __version__
from mcp_extproc.address import Address, default_directory, parse_address, worker_addresses


def main() -> None:
    """Run the command, and exit with its code."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"mcp-extproc, version {__version__}\n")
        return
    if sys.argv[1:2] == ["health"] and (asked := plain_health(sys.argv[2:])) is not None:
        from mcp_extproc.run.health import report

        sys.exit(report(*asked))
    from mcp_extproc.cli import main as run_command

    run_command()


def plain_health(arguments: Sequence[str]) -> tuple[Sequence[Address], Address | None, float] | None:
    """Workers' addresses, that of a bridge, and the timeout of a ``health`` command. ``None`` if it is not plain: the command
    line has to look at it.

    Container managers run it every few seconds, and importing the command line costs ten times what the check does.
    """
    options = {
        "--directory": os.environ.get("MCP_EXTPROC_DIRECTORY", ""),
        "--workers": os.environ.get("MCP_EXTPROC_WORKERS", "") or "1",
        "--timeout": "2",
        "--bridge": "",
    }
    given: list[Address] = []
    words = iter(arguments)
    try:
        for word in words:
            if not word.startswith("-"):
                given.append(parse_address(word))
                continue
            name, equals, value = word.partition("=")
            if name not in options:
                return None
            options[name] = value if equals else next(words)
        workers, timeout = int(options["--workers"]), float(options["--timeout"])
        if not (0 < workers <= 256 and 0 < timeout < math.inf):
            return None
        bridge = parse_address(options["--bridge"]) if options["--bridge"] else None
        if not given and bridge is None:
            given += _default_addresses(options["--directory"], workers)
        return given, bridge, timeout
    except (ValueError, StopIteration):
        return None


def _default_addresses(directory: str, workers: int) -> Sequence[Address]:
    """Those in a directory that exists.

    Raises:
        ValueError: it does not, or is relative: pathlib, which the command line has, knows more about paths.
    """
    where = directory.rstrip("/") if directory else default_directory()
    if not where.startswith("/") or not os.access(f"{where}/", os.F_OK):
        raise ValueError
    addresses = worker_addresses(where, workers)
    parse_address(f"{addresses[-1]}.99999")  # as the command line does
    return addresses


if __name__ == "__main__":
    main()
