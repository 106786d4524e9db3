"""What a worker notes about a request for its record: one text in Envoy's metadata. A worker writes it
(:mod:`mcp_extproc.extproc.recorder`); :mod:`.line_reader` and :mod:`.messages` read it in a record.

One, as each entry of metadata costs Envoy and the worker something, and each that its log looks up. It is put into a line of
that log as it is, so nothing in it may end a line or a part: parts are separated by a character that stands in no JSON text
(RFC 8259, section 7), and all parts but those of ours are JSON. What the requests of a kind have in common is a part of its
own, the same bytes each time, so that it is read once.

Parts are added at the end, as are members of arrays, with a default.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from mcp_extproc.contract import ONCE_CONSENTED, ONCE_MORE
from mcp_extproc.mcp.trace_context import RequestSpans, spans_of

SEPARATOR: Final = "\x1f"
"""Between parts."""

PARTS: Final = 6

MAX_NAME_CHARACTERS: Final = 1024
"""Of a tool's name, or a prompt's: the only texts that are as long as a client likes."""

LEFT_OUT: Final = "-"
"""In place of the ids of spans that are not kept."""


class Kind(msgspec.Struct, frozen=True, array_like=True):
    """What requests of a kind have in common. What is not known is ``None``.

    Attributes:
        method: the JSON-RPC method.
        server: the server of a call.
        tool, prompt: the name there.
        endpoint: the virtual server.
        protocol_version: of the session.
        is_listed: whether the server lists that name.
        rule: that decided.
        passed_on: when it passes Envoy once more: :data:`ONCE_CONSENTED`, :data:`ONCE_MORE`.
        batch: messages in the batch.
    """

    method: str | None = None
    server: str | None = None
    tool: str | None = None
    prompt: str | None = None
    endpoint: str | None = None
    protocol_version: str | None = None
    is_listed: bool = False
    rule: str | None = None
    passed_on: str | None = None
    batch: int | None = None

    def has_another(self, consent: str | None, reason: str | None) -> bool:
        """Whether the request has passed Envoy once more, as what its record is about."""
        if self.passed_on == ONCE_CONSENTED:
            return consent == _GIVEN
        return self.passed_on == ONCE_MORE and reason is None


class Who(msgspec.Struct, frozen=True, array_like=True):
    """Who asks: the short name of the session, the principal, and who vouches for that."""

    session: str | None = None
    principal: str | None = None
    issuer: str | None = None


class More(msgspec.Struct, frozen=True, array_like=True):
    """What most requests have not: the name that was asked for where it is no known one, the URI, the age of a session that
    ends, and the state of a trace."""

    asked_for: str | None = None
    uri: str | None = None
    session_seconds: float | None = None
    state: str = ""


class Note(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        id: the JSON-RPC id as plain text.
        spans: ids of its spans.
        is_left_out: whether these are not kept.
        arguments: what the audit has of them.
    """

    kind: Kind
    who: Who
    id: str | None = None
    spans: RequestSpans | None = None
    is_left_out: bool = False
    arguments: str | None = None
    more: More = More()


_GIVEN: Final = "given"

NO_KIND: Final = Kind()
NOBODY: Final = Who()
NOTHING_MORE: Final = More()

_ENCODE: Final = msgspec.json.Encoder().encode
kind_of: Final = msgspec.json.Decoder(Kind).decode
"""Reads that part; raises ``msgspec.DecodeError``, as the next two do."""
who_of: Final = msgspec.json.Decoder(Who).decode
more_of: Final = msgspec.json.Decoder(More).decode


def shared(kind: Kind, who: Who) -> str:
    """The parts of a text that many requests have in common."""
    return f"{_ENCODE(kind).decode()}{SEPARATOR}{_ENCODE(who).decode()}"


def text(
    shared: str, id: bytes | None, spans: RequestSpans | None, arguments: str | None, more: More = NOTHING_MORE
) -> str:
    """The text.

    Args:
        shared: see :func:`shared`.
        id: JSON text of its id.
        spans: its spans, whether they are kept or not.
        arguments: what the audit has of them, JSON or a hash.
        more: the rest.

    >>> text(shared(Kind("ping"), Who("s")), b"7", None, None).split(SEPARATOR)[1:]
    ['["s",null,null]', '7', '', '', '']
    """
    rare = "" if more is NOTHING_MORE else _ENCODE(more).decode()
    return shared + rest(b"" if id is None else id, spans, arguments).decode() + rare


def rest(id: bytes, spans: RequestSpans | None, arguments: str | None) -> bytes:
    """What stands behind :func:`shared`, but for what most requests have not.

    >>> rest(b"7", None, None)
    b'\\x1f7\\x1f\\x1f\\x1f'
    """
    told = "" if spans is None else spans.text if spans.own.sampled else LEFT_OUT
    return NOTE % (b"", id, told.encode(), b"" if arguments is None else arguments.encode())


NOTE: Final = b"%b\x1f%b\x1f%b\x1f%b\x1f"
"""A text, of what requests have in common, the id, what is told of spans, and the arguments."""


def read(text: str) -> Note | None:
    """What a worker's text says; ``None`` if it is none.

    >>> read(text(shared(Kind("ping"), Who("s")), b'"a"', None, None)).id
    'a'
    """
    parts = text.split(SEPARATOR, PARTS - 1)
    if len(parts) < PARTS:
        return None
    kind, who, id, spans, arguments, rest = parts
    try:
        more = more_of(rest) if rest else NOTHING_MORE
        return Note(
            kind_of(kind), who_of(who), plain(id), spans_in(spans, more), spans == LEFT_OUT, arguments or None, more
        )
    except msgspec.DecodeError:
        return None


def spans_in(part: str, more: More) -> RequestSpans | None:
    """The spans that a part says."""
    return spans_of(part, more.state) if len(part) > 1 else None


def plain(id: str) -> str | None:
    """A JSON-RPC id without its quotes, from its JSON text; ``None`` for an empty one."""
    if not id.startswith('"'):
        return id or None
    try:
        text = json.loads(id)
    except ValueError:
        return id
    return text if isinstance(text, str) else id
