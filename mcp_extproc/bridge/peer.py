"""What is at the other end of a session: a child, or a connection to an HTTP+SSE server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from mcp_extproc.bridge.lines import Skipped
from mcp_extproc.bridge.messages import Incoming, Outgoing
from mcp_extproc.gateway.request import Headers
from mcp_extproc.held import Part
from mcp_extproc.upstreams.room import granted

ROOM_SECONDS = 30.0
"""How long a peer has to wait for what was held before to be read by clients. Then what it writes is refused."""

NO_ROOM = "the bridge holds as much as it may for one client, or for all (limits.held_bytes)"
"""Why something is not kept."""


class Inbox(Protocol):
    """Takes what a peer writes, and knows what is held for its sake."""

    reading: Part
    """What it has written, until it is taken."""
    unsent: Part
    """What it has not read."""

    async def receive(self, message: Incoming | Skipped) -> None:
        """Take a message. While this waits, nothing more is read."""
        ...


async def kept(part: Part, size: int) -> bool:
    """Hold so many bytes, as soon as clients have read enough of what is held; whether they have, in time."""
    if part.keep(size):
        return True
    return size <= part.most and await granted(partial(part.wait, size), ROOM_SECONDS)


class NotStarted(Exception):
    """A peer can't be started. ``str()`` is one clause that says why, and holds no value."""


class NotRead(Exception):
    """A peer does not read, or has ended."""


class HasEnded(NotRead):
    """A peer is no more. How it ended it may say a little later."""

    def __init__(self) -> None:
        super().__init__("has ended")


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

    def write(self, message: Outgoing, context: Headers = ()) -> None:
        """Send it a message.

        Args:
            message: to the server.
            context: headers of the client's request that go along where there are headers.

        Raises:
            NotRead: it does not read, or has ended. ``str()`` is a clause that says which.
        """
        ...

    async def end(self) -> None:
        """End it, and all that belongs to it."""
        ...


Start = Callable[[Inbox], Awaitable[Peer]]
"""Starts one.

Raises:
    NotStarted: it can't be started.
"""
