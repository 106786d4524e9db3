"""Structured logging with the standard library: an event name and fields, as text or JSON.

Fields never hold bodies, header values or tokens; sessions appear under their short names. Of an exception that nobody
expected the log has where it was raised, and not its message, which may quote any of these.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TextIO

import orjson

from mcp_extproc.telemetry.printable import printable

_ROOT = "mcp_extproc"
_FIELDS = "mcp_fields"

_FRAMES = 30
"""Most of one exception that are logged: the innermost."""

_EXCEPTIONS = 10
"""Most that are logged of those that led to one another, or came together."""

_WORDS = 200
"""Most characters that are logged of a library's words."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def logger(name: str) -> logging.Logger:
    """The logger of one part of the gateway, such as ``extproc``."""
    return logging.getLogger(f"{_ROOT}.{name}")


def event(log: logging.Logger, level: int, name: str, fields: Mapping[str, object] | None = None) -> None:
    """Log one event. If the level is disabled, this costs one comparison."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={_FIELDS: fields or {}})


def failure(log: logging.Logger, name: str, error: BaseException, fields: Mapping[str, object] | None = None) -> None:
    """Log an unexpected exception as an error, with its place."""
    log.error(name, exc_info=error, extra={_FIELDS: fields or {}})


def configure(level: str | None, format: str | None, stream: TextIO | None = None, *, calm: bool = False) -> None:
    """Send the gateway's log to ``stream`` (standard error by default).

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; ``None``: ``info``.
        format: ``text`` or ``json``; ``None``: what suits the destination, text for people at a terminal.
        stream: the destination.
        calm: at a terminal, the level is ``warning`` instead of ``info``: for one of several processes that people see as one.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    at_terminal = stream.isatty()
    is_text = at_terminal if format is None else format == "text"
    handler.setFormatter(_TextFormatter() if is_text else _JsonFormatter())
    ours = logging.getLogger(_ROOT)
    ours.handlers[:] = [handler]
    ours.setLevel((level or ("warning" if calm and at_terminal else "info")).upper())
    ours.propagate = False
    everybody = logging.getLogger()
    everybody.handlers[:] = [
        *(other for other in everybody.handlers if not isinstance(other, _Libraries)),
        _Libraries(handler),
    ]


class _Libraries(logging.Handler):
    """What libraries warn of, such as asyncio of exceptions that nobody has looked at. Of their words only what they have in
    their code: what they fill in, and further lines, may quote anything.

    Args:
        ours: where our events go.
    """

    def __init__(self, ours: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._ours = ours

    def emit(self, record: logging.LogRecord) -> None:
        """As an event of ours."""
        words = str(record.msg).partition("\n")[0][:_WORDS]
        told = logging.LogRecord(
            record.name, record.levelno, record.pathname, record.lineno, "library_message", None, record.exc_info
        )
        setattr(told, _FIELDS, {"message": words})
        self._ours.handle(told)


class _Formatter(logging.Formatter):
    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """Kinds of exceptions and where they were raised, the cause first. Messages may quote secrets, and have no bound."""
        return "" if ei[1] is None else "\n".join(reversed(list(_traces(ei[1]))))


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {key}={_plain(value)}" for key, value in getattr(record, _FIELDS, {}).items())
        line = f"{stamp} {record.levelname.lower():7} {record.getMessage()}{fields}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _json(entry)


def _plain(value: object) -> str:
    # One line for each event, even if a value comes from a server's response.
    text = str(value)
    return _json(text) if not text or not text.isprintable() or " " in text or '"' in text else text


def _json(value: object) -> str:
    """JSON without a character that a terminal obeys. Between quotes, which is where they are, this means the same."""
    try:
        return printable(orjson.dumps(value, default=str).decode())
    except TypeError:  # surrogates
        return json.dumps(value, default=str)


def _traces(error: BaseException) -> Iterator[str]:
    """An exception, those that it holds, and those that led to it."""
    left, seen = [error], set[int]()
    while left and len(seen) < _EXCEPTIONS:
        now = left.pop(0)
        if id(now) in seen:
            continue
        seen.add(id(now))
        yield (
            "".join(traceback.format_tb(now.__traceback__, -_FRAMES))
            + f"{type(now).__module__}.{type(now).__qualname__}"
        )
        if isinstance(now, BaseExceptionGroup):
            left += now.exceptions
        before = now.__cause__ or (None if now.__suppress_context__ else now.__context__)
        left += [] if before is None else [before]
