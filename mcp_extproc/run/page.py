"""The supervisor's part of the status page: its address, and what the page is told of the gateway while somebody looks.

The page itself stands in the collector's process. It has no credentials of servers, so it is the supervisor that asks them
how they are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from mcp_extproc.address import Address, TcpAddress, parse_address
from mcp_extproc.config import GatewayConfig
from mcp_extproc.run import listening
from mcp_extproc.run.known import Gateway, Texts, known, texts
from mcp_extproc.run.page_file import PageFile
from mcp_extproc.run.process import StartError
from mcp_extproc.run.visitors import Visitors
from mcp_extproc.status.known import UNWATCHED, WATCHED
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.probe import ServerStatus, probe

ASK_SECONDS: Final = 30.0
"""Between two times that servers are asked how they are, while somebody looks."""

_TURN_SECONDS: Final = 2.0
"""Between two looks at whether the configuration is another one."""

_LOG = log.logger("status")


class _Asked(NamedTuple):
    """What servers have answered when they were asked how they are.

    Attributes:
        config: whose servers they are.
        statuses: by name.
        at: when that was, in seconds since the epoch.
    """

    config: GatewayConfig
    statuses: Mapping[str, ServerStatus]
    at: float

    def of(self, config: GatewayConfig) -> Mapping[str, ServerStatus]:
        """As far as a configuration has the same servers."""
        if config is self.config:
            return self.statuses
        servers, before = config.servers, self.config.servers
        return {name: one for name, one in self.statuses.items() if name in servers and servers[name] == before[name]}


class Page:
    """Where the page is, and what it is told.

    Args:
        upstreams: Envoy's private listener, by which servers are asked.
        gateway: the gateway as it is now.
    """

    def __init__(self, upstreams: Address, gateway: Callable[[], Gateway]) -> None:
        self._upstreams = upstreams
        self._gateway = gateway
        self._started = time.time()
        self._address: str | None = None
        self._socket: socket.socket | None = None
        self._file: PageFile | None = None
        self._has_moved = False
        self._tasks = Tasks(_LOG)
        self._watching: asyncio.Task[None] | None = None
        self._process: Process | None = None
        """What serves the page, while there is one."""
        self._asked: _Asked | None = None
        """The last time; nobody may have looked since."""
        self._texts: tuple[GatewayConfig, Texts] | None = None
        """Those of the last configuration that was told."""

    @property
    def url(self) -> str | None:
        """Where people find it."""
        if self._socket is None:
            return None
        host, port = self._socket.getsockname()[:2]
        return f"http://{TcpAddress(host, port)}/"

    @property
    def descriptor(self) -> int | None:
        """Of the listening socket, for the process that serves."""
        return None if self._socket is None else self._socket.fileno()

    def is_at(self, config: GatewayConfig) -> bool:
        """Whether it is where a configuration says."""
        return (config.status.address or None) == self._address

    def open(self, config: GatewayConfig) -> None:
        """Listen where a configuration says, from now on.

        Raises:
            StartError: the address can't be used.
        """
        if self.is_at(config):
            return
        self.close()
        wanted = config.status.address
        if not wanted:
            return
        address = parse_address(wanted)
        assert isinstance(address, TcpAddress)
        try:
            self._socket = listening.at_port(address)
        except StartError as error:
            raise StartError(str(error).replace("--listen", "status.address")) from None
        self._address = wanted
        assert self.url is not None
        self._file = PageFile(self.url, self._gateway().file)
        # Where it is at the start is told with all else.
        log.event(_LOG, logging.INFO if self._has_moved else logging.DEBUG, "status_page", {"url": self.url})
        self._has_moved = True

    def close(self) -> None:
        """Listen no longer."""
        if self._socket is not None:
            self._socket.close()
        if self._file is not None:
            self._file.remove()
        self._socket = self._address = self._file = None

    async def visited(self) -> list[socket.socket]:
        """Wait until somebody asks for something. Connections of all who are there by then, for the process that serves: who
        only connects, as scans of ports do, starts none."""
        assert self._socket is not None
        return await Visitors(self._socket).come()

    async def attend(self, process: Process) -> None:
        """Tell a process that serves the page what it shows, until it ends."""
        assert process.stdout is not None
        self._process = process
        try:
            await self._tell(process)
            while line := await process.stdout.readline():
                if line == WATCHED and self._watching is None:
                    self._watching = self._tasks.start("watch_servers", self._watch(process))
                elif line == UNWATCHED:
                    self._stop_watching()
        finally:
            self._stop_watching()
            if self._process is process:  # not the one that follows it
                self._process = None

    async def learn(self, config: GatewayConfig, statuses: Iterable[ServerStatus]) -> None:
        """What servers of a configuration answered to somebody else who asked them just now, as `run` does at its start. It is
        what the page shows until somebody looks, and nobody may: `top` in a pipe looks once."""
        found = {status.name: status for status in statuses}
        if self._asked is None or found.keys() == config.servers.keys():
            self._asked = _Asked(config, found, time.time())
        else:  # one that has started meanwhile
            self._asked = _Asked(config, {**self._asked.of(config), **found}, self._asked.at)
        if self._process is not None:
            await self._tell(self._process)

    async def stop(self) -> None:
        """End all of it."""
        self.close()
        await self._tasks.close()

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self, process: Process) -> None:
        before = None
        while True:
            config = self._gateway().config
            is_new, before = config is not before, config
            if is_new:
                await self._tell(process)
            if is_new or self._asked is None or time.time() - self._asked.at >= ASK_SECONDS:
                await self.learn(config, await probe(config, self._upstreams))
            await asyncio.sleep(_TURN_SECONDS)

    async def _tell(self, process: Process) -> None:
        assert process.stdin is not None
        with suppress(ConnectionError):
            gateway = self._gateway()
            asked = self._asked
            statuses, at = ({}, None) if asked is None else (asked.of(gateway.config), asked.at)
            told = known(gateway, self._texts_of(gateway.config), self._started, statuses, at)
            process.stdin.write(msgspec.json.encode(told) + b"\n")
            await process.stdin.drain()

    def _texts_of(self, config: GatewayConfig) -> Texts:
        if self._texts is None or self._texts[0] is not config:
            self._texts = config, texts(config)
        return self._texts[1]
