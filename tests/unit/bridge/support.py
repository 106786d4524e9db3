"""stdio servers for tests."""

from __future__ import annotations

import sys
from typing import Any

from mcp_extproc.bridge.spec import StdioServer
from tests.support.processes import ROOT

SERVER = str(ROOT / "tests" / "support" / "stdio_server.py")


def spec(*arguments: str, **options: Any) -> StdioServer:
    """A server as tests/support/stdio_server.py takes it."""
    return StdioServer(**{
        "authority": "localhost",
        "command": (sys.executable, "-S", "-E", SERVER, *arguments),
        "env": {},
        "env_file": None,
        "cwd": None,
        "inherit_env": (),
        "sharing": "session",
        "max_processes": 10,
        "start_timeout": 20.0,
        "answer_within": 20.0,
        "idle_timeout": 600.0,
        "request_bytes": 1 << 20,
        "event_bytes": 1 << 20,
        **options,
    })  # fmt: skip
