"""Who comes to a page that nobody serves yet: people and programs ask something, while who scans ports only connects."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from typing import Final

MOST: Final = 64
"""That are connected and have asked nothing yet. Of more, those that came first have to leave."""

SILENT_SECONDS: Final = 5.0
"""After which who asks nothing has to leave."""

_AGAIN_SECONDS: Final = 1.0
"""Before the next one is let in, where the system has no room for any."""


class Visitors:
    """At a socket, until one of them asks something. What they send stays unread.

    Args:
        listening: the socket.
    """

    def __init__(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._descriptor = listening.fileno()
        self._loop = asyncio.get_running_loop()
        self._silent: OrderedDict[socket.socket, asyncio.TimerHandle] = OrderedDict()
        self._asked = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None

    async def come(self) -> list[socket.socket]:
        """Wait until one asks something. All who are connected by then, for whoever serves them: close them there."""
        self._let_in()
        try:
            await self._asked.wait()
        except asyncio.CancelledError:
            for connection in [*self._silent]:
                self._leave(connection)
            raise
        finally:
            self._loop.remove_reader(self._descriptor)
            if self._later is not None:
                self._later.cancel()
        for connection in self._silent:
            self._look_away(connection)
        return [*self._silent]

    def _let_in(self) -> None:
        self._loop.add_reader(self._descriptor, self._on_connection)

    def _on_connection(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError):  # gone already
            return
        except OSError:
            self._loop.remove_reader(self._descriptor)
            self._later = self._loop.call_later(_AGAIN_SECONDS, self._let_in)
            return
        connection.setblocking(False)
        self._silent[connection] = self._loop.call_later(SILENT_SECONDS, self._leave, connection)
        self._loop.add_reader(connection, self._on_data, connection)
        if len(self._silent) > MOST:
            self._leave(next(iter(self._silent)))

    def _on_data(self, connection: socket.socket) -> None:
        try:
            start = connection.recv(1, socket.MSG_PEEK)
        except OSError:
            start = b""
        # A request begins with its method: others speak something else, or have left.
        if start.isalpha() and start.isupper():
            self._asked.set()
        else:
            self._leave(connection)

    def _leave(self, connection: socket.socket) -> None:
        self._look_away(connection)
        del self._silent[connection]
        connection.close()

    def _look_away(self, connection: socket.socket) -> None:
        self._silent[connection].cancel()
        self._loop.remove_reader(connection)
