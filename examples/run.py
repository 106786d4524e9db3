"""Two sample MCP servers and a gateway in front of them, until Ctrl-C. ``make run`` calls this.

    python examples/run.py [FILE] [options of `mcp-extproc run`]

The servers take free ports, or those in ``NOTES_PORT`` and ``DATES_PORT``. The configuration names the ports by these
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
            # Both start at once: importing the SDK takes each a moment.
            servers = {name: running.enter_context(started(name)) for name in ("notes", "dates")}
            for name, server in servers.items():
                os.environ[_variable(name)] = str(_port(name, server))
        except KeyboardInterrupt:
            return
        # Prints the table, serves, lets running calls finish at Ctrl-C, and ends this process when all is done.
        mcp_extproc(["run", file, *arguments])


@contextmanager
def started(name: str) -> Iterator[Server]:
    """A sample server that is about to serve. It is ended on leaving."""
    script = EXAMPLES / "servers" / f"{name}.py"
    server = subprocess.Popen(
        [sys.executable, str(script), "--port", os.environ.get(_variable(name)) or "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches us alone, so that the servers are still there for the calls that finish.
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
    """Where the server serves: its first line of output is its URL."""
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
    """Have the kernel end a server whose parent was killed without a chance to do so (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


if __name__ == "__main__":
    main()
