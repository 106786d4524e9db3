"""stdio servers for tests."""

from __future__ import annotations

import sys
from typing import Any

from mcp_extproc.bridge.conversation import Conversation
from mcp_extproc.bridge.spec import StdioServer
from mcp_extproc.held import HeldBytes
from tests.support.processes import ROOT

HELD = 256 << 20
"""Bytes: more than tests need that are about something else."""

SERVER = str(ROOT / "tests" / "support" / "stdio_server.py")


def spec(*arguments: str, **options: Any) -> StdioServer:
    """A server as tests/support/stdio_server.py takes it."""
    return StdioServer(**{
        "authority": "localhost",
        "command": (sys.executable, "-S", "-E", SERVER, *arguments),
        "secret_words": (),
        "env": {},
        "env_file": None,
        "cwd": None,
        "inherit_env": (),
        "sharing": "session",
        "most": 10,
        "start_timeout": 20.0,
        "answer_within": 20.0,
        "lent_after": 3.0,
        "idle_timeout": 600.0,
        "request_bytes": 1 << 20,
        "event_bytes": 1 << 20,
        **options,
    })  # fmt: skip


def conversation(waiting_bytes: int = 10_000, held: HeldBytes | None = None, holder: str = "") -> Conversation:
    """That of a session."""
    return Conversation((held or HeldBytes(HELD)).holding(holder), waiting_bytes)
