"""When a configuration is to be read again, and what the log has where it is not taken up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mcp_extproc.config import ConfigError
from mcp_extproc.run.process import StartError
from mcp_extproc.telemetry import log

POLL_SECONDS = 1.0
"""Seconds between two checks of the source. A change is reported once the source is the same in two checks: a half-written
file can be valid."""


class Changing(Protocol):
    """What may change, such as a :class:`mcp_extproc.config.Source`."""

    def signature(self) -> Hashable:
        """Changes with it."""


class Changes:
    """The changes of a source, and requests to read it.

    Args:
        source: of the configuration.
    """

    def __init__(self, source: Changing) -> None:
        self._source = source
        self._asked = asyncio.Event()
        self._before: Hashable = None
        self._handled: Hashable = None
        """Nothing at first: it may have changed since it was read."""

    def ask(self) -> None:
        """Have :meth:`next` return, whether there is a change or not."""
        self._asked.set()

    async def next(self) -> bool:
        """Wait for a change, or until asked. Returns whether it was asked."""
        while True:
            asked = await self._asked_within(POLL_SECONDS)
            now = self._source.signature()
            steady, self._before = now == self._before, now
            if asked or (steady and now != self._handled):
                self._handled = now
                return asked

    async def _asked_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True


@contextmanager
def refusals_logged(logger: logging.Logger, who: str, *kinds: type[Exception]) -> Iterator[None]:
    """Log why a configuration was not taken up, where the one before goes on. Nothing is raised: a later version may do.

    Args:
        logger: where to.
        who: failed, where it is a bug of ours.
        kinds: further exceptions that say in words why it is refused.
    """
    effect = {"effect": "the configuration before goes on"}
    expected: tuple[type[Exception], ...] = (ConfigError, StartError, OSError, *kinds)
    try:
        yield
    except expected as error:
        log.event(logger, logging.ERROR, "config_refused", {"why": str(error), **effect})
    except Exception as error:  # noqa: BLE001 - a bug of ours; the next version may do without it
        why = f"the {who} failed to take it up ({type(error).__name__}); the trace says where"
        log.failure(logger, "config_refused", error, {"why": why, **effect})
