"""Whose a message is, of a child that one session has for itself, and of one that all sessions share.

In a shared child, ids and progress tokens of different sessions may be equal, so each gets one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import msgspec
import orjson

from mcp_extproc.bridge.conversation import Conversation
from mcp_extproc.bridge.messages import Incoming, Key, Kind, Outgoing, cancelled_id, key_of, token_of, unsupported
from mcp_extproc.mcp import envelope, jsontext, methods
from mcp_extproc.mcp.envelope import Message, Notification, Request, Response

Delivery = tuple[Conversation, Incoming]


class Sharing(Protocol):
    """Who uses a child."""

    conversations: list[Conversation]

    def outgoing(self, conversation: Conversation, message: Message) -> Outgoing | None:
        """A client's message as the child gets it; ``None`` where it gets none."""
        ...

    def incoming(self, message: Incoming) -> Iterator[Delivery | bytes]:
        """Whom a child's message is for, and how it reads there; bytes are an answer to the child itself."""
        ...

    def owner(self, id: bytes) -> tuple[Conversation, bytes] | None:
        """Whose request the child knows under an id, and its own id."""
        ...

    def forget(self, conversation: Conversation, id: bytes) -> None:
        """A session waits for the answer to a request no longer. Should it come, it is nobody's."""
        ...

    def leave(self, conversation: Conversation) -> None:
        """A session is over."""
        ...


class Private:
    """One session has the child for itself: nothing is changed.

    Args:
        conversation: of the session.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.conversations = [conversation]

    def outgoing(self, conversation: Conversation, message: Message) -> Outgoing | None:  # noqa: ARG002
        """The message itself."""
        return Outgoing(message.body, message.id if isinstance(message, Request) else None)

    def incoming(self, message: Incoming) -> Iterator[Delivery | bytes]:
        """To the session."""
        yield self._conversation, message

    def owner(self, id: bytes) -> tuple[Conversation, bytes] | None:
        """The session."""
        return self._conversation, id

    def forget(self, conversation: Conversation, id: bytes) -> None:
        """The session knows its own calls."""

    def leave(self, conversation: Conversation) -> None:  # noqa: ARG002
        """The child ends with it."""
        self.conversations = []


@dataclass(frozen=True, slots=True)
class _Asked:
    conversation: Conversation
    id: bytes
    key: Key
    token: bytes | None


class Shared:
    """All sessions have one child. It is told of no capability of a client, and whatever it asks is refused: nobody could tell
    whom it asks. Log messages reach no session, as they may be about another one's calls."""

    def __init__(self) -> None:
        self.conversations: list[Conversation] = []
        self._asked: dict[int, _Asked] = {}
        """What sessions wait for, by the id that the child knows. So it is bounded as their calls are."""
        self._ours: dict[tuple[Conversation, Key], int] = {}
        """Those ids, by session and its own id."""
        self._numbers = count(1)
        self._was_told = False
        """Whether the child has had the notification that follows ``initialize``, of which it gets one."""

    def outgoing(self, conversation: Conversation, message: Message) -> Outgoing | None:
        """The message with an id and a token of ours."""
        if isinstance(message, Response):
            return None  # nothing was asked
        if isinstance(message, Notification):
            return self._notification(conversation, message)
        key = key_of(message.id)
        self._forget(conversation, key)
        number, token = next(self._numbers), token_of(message)
        self._asked[number] = _Asked(conversation, message.id, key, token)
        self._ours[conversation, key] = number
        ours = b"%d" % number
        changes = {} if token is None else {"_meta": _with_token(message, ours)}
        return Outgoing(message.rewritten(changes, ours), ours)

    def _notification(self, conversation: Conversation, message: Notification) -> Outgoing | None:
        if message.method == methods.INITIALIZED.name:
            was_told, self._was_told = self._was_told, True
            return None if was_told else Outgoing(message.body)
        cancelled = cancelled_id(message)
        if cancelled is None:
            return Outgoing(message.body)
        number = self._ours.get((conversation, key_of(cancelled)))
        return None if number is None else Outgoing(message.rewritten({"requestId": b"%d" % number}))

    def incoming(self, message: Incoming) -> Iterator[Delivery | bytes]:
        """A response or progress to whoever asked; changes of lists to everybody."""
        if message.kind is Kind.REQUEST and message.id is not None:
            answered = methods.SERVER_REQUESTS.get(message.method or "")
            is_ping = answered is not None and answered.relaying is methods.Relaying.ANSWER
            yield envelope.result(message.id, {}) if is_ping else unsupported(message.id)
        elif message.kind is Kind.RESPONSE and message.id is not None:
            asked = self._taken(_number(message.key))
            if asked is not None:
                yield asked.conversation, message.with_id(asked.id)
        elif message.progress is not None:
            asked = self._asked.get(_number(message.key))
            if asked is not None and asked.token is not None:
                yield asked.conversation, message.with_progress(asked.token)
        elif message.changes_lists:
            for conversation in self.conversations:
                yield conversation, message

    def owner(self, id: bytes) -> tuple[Conversation, bytes] | None:
        """Whoever asked."""
        asked = self._taken(_number(key_of(id)))
        return None if asked is None else (asked.conversation, asked.id)

    def forget(self, conversation: Conversation, id: bytes) -> None:
        """Its answer would be taken for that of the next call under the same id."""
        self._forget(conversation, key_of(id))

    def _forget(self, conversation: Conversation, key: Key) -> None:
        number = self._ours.get((conversation, key))
        if number is not None:
            self._taken(number)

    def _taken(self, number: int) -> _Asked | None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            del self._ours[asked.conversation, asked.key]
        return asked

    def leave(self, conversation: Conversation) -> None:
        """What it asked is answered to nobody."""
        self.conversations = [other for other in self.conversations if other is not conversation]
        for number in [number for number, asked in self._asked.items() if asked.conversation is conversation]:
            self._taken(number)


def _with_token(request: Request, token: bytes) -> bytes:
    meta = jsontext.split(request.params["_meta"])
    return jsontext.join({**meta, "progressToken": msgspec.Raw(token)})


def _number(key: Key | None) -> int:
    value = None if key is None else key[1]
    return value if isinstance(value, int) else -1


def without_capabilities(initialize: Request) -> bytes:
    """The first ``initialize`` as a shared child gets it, under the id 0, which no other request has."""
    return initialize.rewritten({"capabilities": orjson.dumps({})} if "capabilities" in initialize.params else {}, b"0")
