"""What servers and sessions write to each other, read as far as it takes to know whom it is for."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field, replace

import msgspec

from mcp_extproc.contract import SERVER_FAILED
from mcp_extproc.mcp import envelope, errors, jsontext, methods
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import Members
from mcp_extproc.slices import Slices, whole

Key = tuple[type, int | str]
"""An id or a progress token, to compare: ``1`` and ``"1"`` differ, two spellings of one string do not."""

_PROGRESS = next(
    row.name for row in methods.SERVER_NOTIFICATIONS.values() if row.relaying is methods.Relaying.BY_PROGRESS
)
_MAX_DEPTH = 1000
_MAX_MEMBERS = 1_000_000
"""The gateway and clients have lower bounds of their own, for both."""

_MAX_MESSAGES = 1000
"""Most in one batch."""

_LISTS_CHANGED = frozenset(methods.LIST_CHANGED.values())


class Kind(enum.Enum):
    """What a message is."""

    RESPONSE = enum.auto()
    REQUEST = enum.auto()
    NOTIFICATION = enum.auto()


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message of a child."""

    kind: Kind
    text: bytes = field(repr=False)
    """Byte for byte as it was written."""
    members: Members = field(repr=False)
    method: str | None = None
    id: bytes | None = None
    """JSON text of the id."""
    progress: bytes | None = None
    """JSON text of the token of a notification of progress."""
    why: str | None = None
    """Of an error that is the bridge's own and no server's: its clause about the server."""
    key: Key | None = field(init=False)
    """Of the request that it is about: that answers it, or tells of its progress."""

    def __post_init__(self) -> None:
        about = self.id if self.kind is Kind.RESPONSE else self.progress
        object.__setattr__(self, "key", None if about is None else key_of(about))

    @property
    def changes_lists(self) -> bool:
        """Whether it says that a list changed, which concerns everybody."""
        return self.method in _LISTS_CHANGED

    @property
    def is_log(self) -> bool:
        """Whether it is a log message."""
        row = methods.SERVER_NOTIFICATIONS.get(self.method or "")
        return row is not None and row.relaying is methods.Relaying.BY_LEVEL

    def with_id(self, id: bytes) -> Incoming:
        """The same under another id."""
        return replace(self, text=envelope.with_id(self.text, self.members, id), id=id)

    def with_progress(self, token: bytes) -> Incoming:
        """The same with another progress token."""
        params = jsontext.split(self.members["params"])
        raw = jsontext.join({**params, "progressToken": msgspec.Raw(token)})
        return replace(self, text=jsontext.join({**self.members, "params": msgspec.Raw(raw)}), progress=token)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to a child."""

    text: bytes = field(repr=False)
    id: bytes | None = None
    """JSON text of the id under which it wants an answer; ``None`` where it wants none."""


def reading(line: bytes) -> Slices[list[Incoming] | None]:
    """The messages on a line, which at 2025-03-26 may be several; ``None`` where something is no message. Read in
    slices: others may run between two of them."""
    found = []
    texts = envelope.messages_in(line)
    if len(texts) > _MAX_MESSAGES:
        return None
    for text in texts:
        try:
            yield from jsontext.checking(text, _MAX_DEPTH, _MAX_MEMBERS)
            message = _read_checked(text)
        except jsontext.NotJson:
            return None
        if message is None:
            return None
        found.append(message)
    return found


def read(line: bytes) -> list[Incoming] | None:
    """The same at once."""
    return whole(reading(line))


def _read_checked(text: bytes) -> Incoming | None:
    members = jsontext.object_of(text)
    if members is None or jsontext.text_in(members, "jsonrpc") != "2.0":
        return None
    id = envelope.read_id(members.get("id"))
    method = jsontext.text_in(members, "method")
    if method is None:
        answers = "result" in members or "error" in members
        return Incoming(Kind.RESPONSE, text, members, id=id) if answers and id is not None else None
    if "id" in members:
        return Incoming(Kind.REQUEST, text, members, method, id) if id is not None else None
    return Incoming(Kind.NOTIFICATION, text, members, method, progress=_progress_of(method, members))


def _progress_of(method: str, members: Members) -> bytes | None:
    params = jsontext.object_in(members, "params") if method == _PROGRESS else None
    return envelope.read_id(params.get("progressToken")) if params is not None else None


def key_of(raw: bytes) -> Key:
    """An id or token, to compare."""
    if raw[:1] != b'"':
        return int, int(raw)
    return str, str(json.loads(raw)) if b"\\" in raw else raw[1:-1].decode()


def token_of(request: envelope.Request) -> bytes | None:
    """JSON text of the token under which a request wants to hear of its progress."""
    try:
        meta = jsontext.object_in(request.params, "_meta")
    except jsontext.NotJson:
        return None  # it has more members than are taken apart, and goes on as it is
    return None if meta is None else envelope.read_id(meta.get("progressToken"))


def cancelled_id(message: envelope.Message) -> bytes | None:
    """JSON text of the id of the request that a notification cancels."""
    if not isinstance(message, envelope.Notification) or message.method != methods.CANCELLED.name:
        return None
    return envelope.read_id(message.params.get("requestId"))


def failure(id: bytes | None, message: str) -> bytes:
    """The answer to a request that a server will not answer."""
    return errors.render(McpError(errors.INTERNAL_ERROR, message, reason=SERVER_FAILED, id=id))


def unsupported(id: bytes) -> bytes:
    """The answer to a request of a server that nobody is there for."""
    return errors.render(
        McpError(errors.METHOD_NOT_FOUND, "There is no client that could be asked.", reason="no_client", id=id)
    )
