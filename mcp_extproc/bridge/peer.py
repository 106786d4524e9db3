"""What is at the other end of a session: a child, or a connection to an HTTP+SSE server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from mcp_extproc.bridge.lines import TooLong
from mcp_extproc.bridge.messages import Incoming

Receive = Callable[[Incoming | TooLong], Awaitable[None]]
"""Takes what a peer writes. While it waits, nothing more is read."""


class NotRead(Exception):
    """A peer does not read, or has ended."""


class Peer(Protocol):
    """A server's end of one session, or of all."""

    ended: asyncio.Event
    """Set once it is gone, with all that belongs to it."""
    ending_text: str
    """How it ended, as a clause for people."""
    was_asked: bool
    """Whether it ended because it was told to."""

    @property
    def is_ending(self) -> bool:
        """Whether it is no use for anything new: its program has exited, or is told to, or its connection is closed."""
        ...

    def write(self, message: bytes) -> None:
        """Send it a message.

        Raises:
            NotRead: it does not read, or has ended. ``str()`` is a clause that says which.
        """
        ...

    async def end(self) -> None:
        """End it, and all that belongs to it."""
        ...


Start = Callable[[Receive], Awaitable[Peer]]
"""Starts one.

Raises:
    NotStarted: it can't be started.
"""
