"""Requests of our own to servers, as the worker's observer is told of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.telemetry.observer import Observer, Sent

CANCELLED = "cancelled"
"""Nobody waits any more: the time was up, or the client is gone."""

INTERNAL = "internal"


class Failure(Exception):
    """Something that did not work out with a server."""

    @property
    def error_type(self) -> str:
        """What it is, by the conventions of OpenTelemetry: a code, a status or a word of few."""
        raise NotImplementedError


@contextmanager
def sending(
    observer: Observer, method: str, entry: CatalogEntry, version: str | None, context: RequestContext
) -> Iterator[RequestContext]:
    """A request of ours, or a notification, for as long as the block lasts.

    Args:
        observer: is told of it.
        method: of MCP.
        entry: the server.
        version: of the protocol; ``None`` where that is to be agreed on.
        context: for whose sake it is sent.

    Yields:
        The context that it is sent with: where its span is kept, the server gets that as parent.
    """
    parent = context.span
    span = "" if parent is None else observer.new_span()

    def tell(start: int, end: int, error_type: str | None) -> None:
        observer.sent(Sent(method, entry.name, version, start, end, error_type, parent, span))

    with timed(tell):
        yield context if parent is None else context.below(parent.child(span))


@contextmanager
def timed(tell: Callable[[int, int, str | None], None]) -> Iterator[None]:
    """Tell when the block was entered and left, in nanoseconds since the epoch, and what went wrong in it."""
    start, began = time.time_ns(), time.monotonic_ns()
    error_type = None
    try:
        yield
    except Failure as failure:
        error_type = failure.error_type
        raise
    except (asyncio.CancelledError, GeneratorExit):
        error_type = CANCELLED
        raise
    except BaseException:
        error_type = INTERNAL
        raise
    finally:
        tell(start, start + time.monotonic_ns() - began, error_type)
