"""Starts two sample MCP servers and a gateway in front of them, until Ctrl-C. ``make run`` calls this.

    python examples/run.py [FILE] [options of `mcp-extproc run`]

The servers listen on free ports, or on those in ``NOTES_PORT`` and ``DATES_PORT``. The configuration refers to these
variables.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mcp_extproc.cli import main as mcp_extproc

EXAMPLES = Path(__file__).parent
STOP_SECONDS = 5.0

Server = subprocess.Popen[str]


def main() -> None:
    arguments = sys.argv[1:]
    file = arguments.pop(0) if arguments and not arguments[0].startswith("-") else str(EXAMPLES / "gateway.yaml")
    with ExitStack() as running:
        try:
            if sys.stderr.isatty():
                print("Starting the sample servers", file=sys.stderr)
            # Started in parallel, because importing the SDK takes a moment.
            servers = {name: running.enter_context(started(name)) for name in ("notes", "dates")}
            for name, server in servers.items():
                os.environ[_variable(name)] = str(_port(name, server))
        except KeyboardInterrupt:
            return
        # Prints the table, serves, lets running calls finish at Ctrl-C, and exits.
        mcp_extproc(["run", file, *arguments])


@contextmanager
def started(name: str) -> Iterator[Server]:
    """A sample server that is starting. It is ended on leaving the context."""
    script = EXAMPLES / "servers" / f"{name}.py"
    server = subprocess.Popen(
        [sys.executable, str(script), "--port", os.environ.get(_variable(name)) or "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches only this process, so that the servers are still there for calls that finish.
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _port(name: str, server: Server) -> int:
    """The server's port, from its first line of output, the URL."""
    assert server.stdout is not None
    url = server.stdout.readline()
    if not url:
        sys.exit(f"error: the sample server {name} did not start, see above. {_variable(name)} sets another port.")
    port = urlsplit(url).port
    assert port is not None
    return port


def _variable(name: str) -> str:
    return f"{name.upper()}_PORT"


def _die_with_parent() -> None:
    """Have the kernel end a server when its parent is killed (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


if __name__ == "__main__":
    main()
