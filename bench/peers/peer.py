"""What all peers have in common."""

from __future__ import annotations

import http.client
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from bench.errors import BenchError
from bench.peers.workshop import Workshop
from bench.session import open_session
from bench.systems import Running, Stage, System, name_of_tool

_PAUSE = 0.2


class Peer(ABC):
    """One gateway, in one configuration."""

    name: ClassVar[str]
    """On the command line and in files."""
    title: ClassVar[str]
    version: ClassVar[str]
    released: ClassVar[str]
    """When, in ISO 8601."""
    remark: ClassVar[str]
    """How it is built and configured here, for the page."""
    patience: ClassVar[float] = 60.0
    """Seconds to start: until it lists the tools of all servers."""
    has_sessions: ClassVar[bool] = True
    remembers_lists: ClassVar[bool] = False

    @abstractmethod
    def missing(self) -> str:
        """What the machine lacks for a build, in words; empty if nothing."""

    @abstractmethod
    def built(self, workshop: Workshop) -> Path:
        """What the build leaves, if it was done."""

    @abstractmethod
    def build(self, workshop: Workshop) -> None:
        """Builds it, if that is not done yet. Raises BenchError if that fails."""

    @abstractmethod
    def start(self, stage: Stage, built: Path) -> Running:
        """Starts all its processes. Raises BenchError if that fails."""

    def named(self, server: str, tool: str) -> str:
        """Its name for a tool."""
        return name_of_tool(server, tool)

    def system(self, workshop: Workshop, tools: tuple[str, ...]) -> System:
        """To compare.

        Args:
            workshop: where it was built.
            tools: of each server. The start ends when all are listed.
        """

        def start(stage: Stage) -> Running:
            running = self.start(stage, self.built(workshop))
            listed = system.tools(stage.servers, tools)
            self._await(running, listed)
            return running

        system = System(
            "p",
            f"{self.title} {self.version}",
            start,
            named=self.named,
            has_sessions=self.has_sessions,
            remembers_lists=self.remembers_lists,
        )
        return system

    def _await(self, running: Running, tools: tuple[str, ...]) -> None:
        """Some serve before they have read the lists of their servers."""

        def check() -> None:
            for process in running.processes.values():
                process.check()

        def listed() -> bool:
            open_session(running.port, tools, check, has_sessions=self.has_sessions)
            return True

        until(listed, check, self.patience)


def until(ready: Callable[[], bool], check: Callable[[], None], patience: float) -> None:
    """Waits for something.

    Args:
        ready: whether it is there. Not yet, either, if it raises BenchError or OSError.
        check: raises BenchError if it can't come any more.
        patience: in seconds.

    Raises:
        BenchError: of `check`, or with the last reason of `ready` when patience has run out.
    """
    deadline = time.monotonic() + patience
    while True:
        reason = "it was not ready"
        try:
            if ready():
                return
        except (BenchError, OSError, http.client.HTTPException) as error:
            reason = str(error)
        check()
        if time.monotonic() > deadline:
            raise BenchError(f"not ready after {patience:.0f} s: {reason}")
        time.sleep(_PAUSE)


def urls(servers: tuple[str, ...], port: int) -> Mapping[str, str]:
    """Addresses of the MCP servers by name: all the same one, at paths that differ for gateways that tell servers by them."""
    return {server: f"http://127.0.0.1:{port}/{server}" for server in servers}
