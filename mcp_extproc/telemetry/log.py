"""Structured logging with the standard library: an event name and fields, as text or JSON.

Fields never contain bodies, header values or tokens; sessions appear under their short names.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import orjson

_ROOT = "mcp_extproc"
_FIELDS = "mcp_fields"


def logger(name: str) -> logging.Logger:
    """The logger of one part of the gateway, such as ``extproc``."""
    return logging.getLogger(f"{_ROOT}.{name}")


def event(log: logging.Logger, level: int, name: str, fields: Mapping[str, object] | None = None) -> None:
    """Log one event. If the level is disabled, this costs one comparison."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={_FIELDS: fields or {}})


def configure(level: str, format: str, stream: TextIO | None = None) -> None:
    """Send the gateway's log to ``stream`` (standard error by default).

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``text`` or ``json``.
        stream: the destination.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if format == "json" else _TextFormatter())
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {key}={_plain(value)}" for key, value in getattr(record, _FIELDS, {}).items())
        line = f"{stamp} {record.levelname.lower():7} {record.getMessage()}{fields}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _JsonFormatter(logging.Formatter):
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
        return orjson.dumps(entry, default=str).decode()


def _plain(value: object) -> str:
    # One line for each event, even if a value comes from a server's response.
    text = str(value)
    return orjson.dumps(text).decode() if not text or not text.isprintable() or " " in text or '"' in text else text
