"""JSON-RPC 2.0 messages as MCP sends them: read strictly, rewritten without touching a byte that is not ours.

Contract of :func:`parse`: a :data:`Message`, or :class:`McpError` with the HTTP status the transport demands. Anything else
that escapes is a bug here.

Sources: JSON-RPC 2.0; MCP 2025-11-25 basic/index (Messages) and basic/transports (Sending Messages to the Server).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import orjson

from mcp_extproc.mcp import errors, jsontext
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import DuplicateMember, Members, NotJson, TooManyMembers
from mcp_extproc.mcp.methods import GUARDED_PARAMS, REQUESTS
from mcp_extproc.slices import Slices, whole

MAX_ID_BYTES = 1024
"""Longest id, as JSON text. It travels in metadata, logs and error answers; SDKs send numbers or UUIDs."""

MAX_METHOD_CHARS = 128

_read_text_or_integer = msgspec.json.Decoder(str | int).decode
_read_fraction = msgspec.json.Decoder(float).decode

_EXACT = 2**53
"""Up to it, fractions hold every integer."""

_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_METHOD = re.compile(r"[\x21-\x7e]+")
_FIRST_CHARACTER = re.compile(rb"[ \t\n\r]*(.)", re.DOTALL)

# Go's encoding/json matches names without regard to case, so a server could read `PARAMS` where policy read `params`.
_ENVELOPE_NAMES = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_INNER_NAMES = {"ref": frozenset({"type", "name", "uri"}), "_meta": frozenset({"progressToken"})}
_FOLDED = {name.casefold(): name for name in _ENVELOPE_NAMES | GUARDED_PARAMS}


class Places(msgspec.Struct, frozen=True):
    """Where values start."""

    members: Mapping[str, int]
    params: Mapping[str, int]


class _Call(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    body: bytes
    """The message as it came."""
    params: Members
    """Members of ``params``; empty where there is none."""
    parts: Members | None = None
    """Its members in order, and :attr:`params` is in order, too; ``None`` where it was read in one pass (:func:`usual`)."""
    places: Places | None = None
    """Where the values of its members start, and in ``params`` those of its members; ``None`` where both are written without
    blanks between members, as we would write them."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method!r}, {len(self.body)} bytes)"

    @property
    def members(self) -> Members:
        """Its members in order."""
        return jsontext.split(self.body) if self.parts is None else self.parts

    def text(self, name: str) -> str | None:
        """A string member of ``params``, or ``None`` where it is absent or no string."""
        raw = self.params.get(name)
        return None if raw is None else jsontext.text_of(raw)

    def object(self, name: str) -> Members | None:
        """An object in ``params``, or ``None`` where it is absent or no object.

        Raises:
            McpError: it has two meanings or too many members, as of :func:`parse`.
        """
        try:
            members = jsontext.object_in(self.params, name)
        except TooManyMembers as error:
            raise too_many_members(f'"{name}" is {error}') from None
        if members is not None:
            _refuse_second_meanings(self.params[name], members, _INNER_NAMES.get(name, GUARDED_PARAMS))
        return members

    def rewritten(self, changes: Mapping[str, bytes | None], id: bytes | None = None) -> bytes:
        """The message with members of ``params`` replaced or (``None``) taken out, and with another id if one is given.

        Every other byte stays as it came, but for blanks between members where one is taken out.
        """
        if self.parts is None and id is None and changes.keys() == {"name"}:
            name = changes["name"]
            renamed = None if name is None else self._renamed(name)
            if renamed is not None:
                return renamed
        members = self.members
        if id is not None and id == bytes(members["id"]):
            id = None
        if self.places is None:
            return self._rewritten_compact(members, changes, id)
        edits = [(self.places.members["id"], members["id"], id)] if id is not None else []
        if None in changes.values():
            edits.append(
                (self.places.members["params"], members["params"], jsontext.join(self._changed(members, changes)))
            )
        elif changes:
            start = self.places.members["params"]
            edits += [
                (start + self.places.params[name], self.params[name], value or b"") for name, value in changes.items()
            ]
        return jsontext.edited(self.body, edits)

    def _renamed(self, name: bytes) -> bytes | None:
        """The same for another name alone, without taking ``params`` apart; ``None`` where the old one could be elsewhere in
        the message, too."""
        old, new = b'"name":%b' % bytes(self.params["name"]), b'"name":%b' % name
        at = self.body.find(b'"params":{%b' % old)
        if at >= 0 and self.body.find(b'"params"', 0, at) < 0:
            # No other name of a member, and no id, has it before `params` itself: mostly the end need not be looked at.
            at += len(b'"params":{')
            body = memoryview(self.body)
            return b"".join((body[:at], new, body[at + len(old) :]))
        # It stands in `params` without a blank, so that no other is meant where there is only one.
        around = self.body.split(old, 2)
        return None if len(around) != 2 else new.join(around)

    def _rewritten_compact(self, members: Members, changes: Mapping[str, bytes | None], id: bytes | None) -> bytes:
        """The same where writing all members anew gives the very bytes that came."""
        members = dict(members)
        if changes:
            members["params"] = msgspec.Raw(jsontext.join(self._changed(members, changes)))
        if id is not None:
            members["id"] = msgspec.Raw(id)
        return jsontext.join(members)

    def _changed(self, members: Members, changes: Mapping[str, bytes | None]) -> Members:
        params = dict(self.params) if self.parts is not None else jsontext.split(members["params"])
        for name, value in changes.items():
            if value is None:
                del params[name]
            else:
                params[name] = msgspec.Raw(value)
        return params


class Request(_Call, frozen=True, kw_only=True):
    """A message that wants an answer."""

    id: bytes
    """JSON text of the id, digit for digit: clients distinguish ``1`` from ``"1"``, and integers may exceed 2**53."""


class Notification(_Call, frozen=True, kw_only=True):
    """A message without id: it gets 202 and no answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """A client's answer to a request of a server."""

    id: bytes
    body: bytes = field(repr=False)
    members: Members = field(repr=False)


Message = Request | Notification | Response


def result(id: bytes, value: object) -> bytes:
    """A response. ``value`` may hold ``orjson.Fragment`` for parts taken over verbatim."""
    return orjson.dumps({"jsonrpc": "2.0", "id": orjson.Fragment(id), "result": value})


def with_id(body: bytes, members: Members, id: bytes) -> bytes:
    """A message with another id, every other byte as it was. The last one counts where a member stands twice."""
    try:
        if "id" in members:
            return jsontext.replace(body, members, "id", id)
    except DuplicateMember:
        pass
    return jsontext.join({**members, "id": msgspec.Raw(id)})


def has_variants(members: Members) -> bool:
    """Whether a message has a member that some readers take for another one, as they ignore case."""
    return not members.keys() <= _ENVELOPE_NAMES and any(
        name not in _ENVELOPE_NAMES and _FOLDED.get(name.casefold()) in _ENVELOPE_NAMES for name in members
    )


def as_answer(text: bytes, members: Members, id: bytes, sent: bytes) -> bytes | None:
    """A response as the answer to a request, every other byte as it was, or ``None`` for one to another request.

    An error without an id is about the request that it is a response to (JSON-RPC 2.0 section 5). No reader finds another
    id in what is returned.

    Args:
        text: the response.
        members: its own, of which none is a variant (:func:`has_variants`).
        id: of the request, as the client wrote it.
        sent: the same as the server got it.
    """
    theirs = members.get("id")
    if theirs is None or jsontext.is_null(theirs):
        return with_id(text, members, id) if is_error(members) else None
    raw = bytes(theirs)
    if raw == id == sent and jsontext.is_unambiguous(text, members):
        return text
    return with_id(text, members, id) if raw == sent or _is_same_id(raw, sent) else None


def is_error(members: Members) -> bool:
    """Whether a response says that the request failed. Some writers give both members, one of them null."""
    return "error" in members and not ("result" in members and jsontext.is_null(members["error"]))


def _is_same_id(one: bytes, other: bytes) -> bool:
    """Whether two ids mean the same: escapes are spelled otherwise, and some servers write numbers as strings or fractions."""
    first, second = _value_of_id(one), _value_of_id(other)
    return first is not None and (first == second or (isinstance(second, int) and first == str(second)))


def _value_of_id(text: bytes) -> str | int | None:
    try:
        value: str | int = _read_text_or_integer(text)
        return value
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        number = _read_fraction(text)
    except msgspec.DecodeError:
        return None
    return int(number) if abs(number) < _EXACT and number.is_integer() else None


def is_batch(body: bytes) -> bool:
    """Whether the text is a JSON array (2025-03-26 basic/index, Batching), if it is JSON at all."""
    first = _FIRST_CHARACTER.match(body)
    return first is not None and first[1] == b"["


def messages_in(text: bytes) -> list[bytes]:
    """What a server sent as one message, which at 2025-03-26 may be an array of messages. None of them is read."""
    if text.startswith(b"{"):
        return [text]
    elements = jsontext.elements_of(text) if is_batch(text) else None
    return [text] if elements is None else [bytes(element) for element in elements]


def split_batch(body: bytes, max_messages: int) -> list[bytes]:
    """The messages of a batch that passed :func:`check`, unread.

    Raises:
        McpError: 400 with -32700 or -32600.
    """
    messages = jsontext.elements_of(body)
    if messages is None:
        raise _not_an_object(body)
    if not 0 < len(messages) <= max_messages:
        raise _invalid(f"a batch holds 1 to {max_messages} messages")
    return [bytes(message) for message in messages]


def no_batch() -> McpError:
    """A batch where none is accepted."""
    return _invalid("batches are not accepted: send one message in each POST")


def too_many_members(what: str) -> McpError:
    """JSON with so many members that reading it would keep others waiting."""
    return _invalid(what, reason="too_many_members")


def check(body: bytes, max_depth: int, max_members: int) -> None:
    """Refuse what is not worth reading, a message or a batch.

    Raises:
        McpError: 400 with -32700 (no UTF-8, or nested too deeply) or -32600 (``too_many_members``).
    """
    try:
        jsontext.check_text(body, max_depth, max_members)
    except NotJson as error:
        raise _not_worth_reading(error) from None


def checking(body: bytes, max_depth: int, max_members: int) -> Iterator[None]:
    """The same in slices: others may run between two of them."""
    try:
        yield from jsontext.checking(body, max_depth, max_members)
    except NotJson as error:
        raise _not_worth_reading(error) from None


def _not_worth_reading(error: NotJson) -> McpError:
    if isinstance(error, TooManyMembers):
        return too_many_members(f"it has {error} (limits.json_members)")
    return _not_json(error)


def parse(body: bytes, max_depth: int, max_members: int) -> Message:
    """Check and read one message.

    Raises:
        McpError: as of :func:`check` and :func:`read`.
    """
    check(body, max_depth, max_members)
    return read(body)


def read(body: bytes) -> Message:
    """Read one message that passed :func:`check`, or is a part of a batch that did.

    Raises:
        McpError: 400 with -32700 (not JSON) or -32600 (not a JSON-RPC message, or one with two meanings or too many
            members); ``id`` is set where it was valid.
    """
    return usual(body) or whole(reading_any(body))


def reading(body: bytes) -> Slices[Message]:
    """The same in slices: others may run between two of them."""
    if (read := usual(body)) is not None:
        return read
    yield
    return (yield from reading_any(body))


class _UsualParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: msgspec.Raw
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    meta: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="_meta", default=msgspec.UNSET)


class _UsualRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nearly all requests: a tool is called or a prompt asked for, without a member that changes what that means."""

    jsonrpc: Literal["2.0"]
    id: msgspec.Raw
    method: str
    params: _UsualParams


_FIRST_NAME_BYTES = 16
"""A name of :class:`_UsualRequest`, and what is around it."""

_read_usual = msgspec.json.Decoder(_UsualRequest).decode
_encode = msgspec.json.Encoder().encode


def usual(body: bytes) -> Request | None:
    """A request of the usual members alone, read in one pass; ``None`` for any other message, which may be valid.

    It has no blanks between members and none twice, or it would be longer than what is written of what was read.
    """
    if b'": ' in body[:_FIRST_NAME_BYTES]:
        return None  # All is written with blanks then: no pass over it for nothing.
    try:
        read = _read_usual(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    id = read_id(read.id)
    if id is None or read.method not in REQUESTS or len(_encode(read)) != len(body):
        return None
    told = read.params
    params = {"name": told.name}
    if told.arguments is not msgspec.UNSET:
        params["arguments"] = told.arguments
    if told.meta is not msgspec.UNSET:
        params["_meta"] = told.meta
    return Request(method=read.method, body=body, params=params, id=id)


def reading_any(body: bytes) -> Slices[Message]:
    """The same for messages of whatever shape."""
    try:
        members = jsontext.split(body)
    except TooManyMembers as error:
        raise too_many_members(f"it is {error}") from None
    except NotJson as error:
        raise _not_json(error) from None
    except TypeError:
        raise _not_an_object(body) from None
    yield
    id = read_id(members.get("id"))
    try:
        return (yield from _reading(body, members, id))
    except McpError as error:
        raise error.about(None if error.reason == "duplicate_id" else id) from None


def _reading(body: bytes, members: Members, id: bytes | None) -> Slices[Message]:
    at = _refuse_second_meanings(body, members, _ENVELOPE_NAMES)
    version = members.get("jsonrpc")
    if version is None or (bytes(version) != b'"2.0"' and jsontext.text_of(version) != "2.0"):
        raise _invalid('"jsonrpc" has to be "2.0"')
    if "id" in members and id is None:
        raise _invalid(f'"id" has to be a string or an integer, at most {MAX_ID_BYTES} bytes long')
    if "method" not in members:
        return _read_response(body, members, id)
    if "result" in members or "error" in members:
        raise _invalid('a message has either "method" or "result" or "error"')
    method = jsontext.text_of(members["method"])
    if method is None or len(method) > MAX_METHOD_CHARS or not _METHOD.fullmatch(method):
        raise _invalid('"method" has to be a string of visible ASCII characters')
    yield
    params = _read_params(members)
    yield
    places = _places(body, members, at, params)
    if id is None:
        return Notification(method=method, body=body, parts=members, params=params, places=places)
    return Request(method=method, body=body, parts=members, params=params, places=places, id=id)


def _read_response(body: bytes, members: Members, id: bytes | None) -> Response:
    if ("result" in members) == is_error(members) or id is None:
        raise _invalid('expected "method", or "id" with either "result" or "error"')
    return Response(id=id, body=body, members=members)


def _read_params(members: Members) -> Members:
    raw = members.get("params")
    if raw is None or jsontext.is_null(raw):
        return {}
    try:
        return jsontext.split(raw)
    except TooManyMembers as error:
        raise too_many_members(f'"params" is {error}') from None
    except TypeError:
        raise _invalid('"params" has to be an object') from None


def _places(body: bytes, members: Members, at: Mapping[str, int] | None, params: Members) -> Places | None:
    if not params:
        return None if at is None else Places(at, {})
    inside = _refuse_second_meanings(members["params"], params, GUARDED_PARAMS)
    if at is None and inside is None:
        return None
    if inside is None:
        inside = jsontext.offsets(bytes(members["params"]), params)
    return Places(jsontext.offsets(body, members) if at is None else at, inside)


def _refuse_second_meanings(
    text: bytes | msgspec.Raw, members: Members, names: frozenset[str]
) -> Mapping[str, int] | None:
    """Refuse what two readers could read differently. Returns where the values start; ``None`` if the text is compact."""
    for name in members:
        if name not in names and (meant := _FOLDED.get(name.casefold())) in names:
            raise _invalid(f'"{name}" differs from "{meant}" only in case, which servers may read as the same')
    if jsontext.is_compact(text, members):
        return None
    try:
        return jsontext.offsets(bytes(text), members)
    except DuplicateMember as duplicate:
        reason = "duplicate_id" if str(duplicate) == "id" else "duplicate_member"
        raise _invalid(f'the member "{duplicate}" is given twice', reason) from None


def read_id(raw: msgspec.Raw | None) -> bytes | None:
    """The JSON text of an id, or ``None`` where it is none that MCP allows (basic/index, Requests) or too long."""
    if raw is None:
        return None
    text = bytes(raw)
    if len(text) <= MAX_ID_BYTES and (
        _INTEGER.fullmatch(text) or (text[:1] == b'"' and jsontext.text_of(raw) is not None)
    ):
        return text
    return None


def _not_an_object(body: bytes) -> McpError:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return _not_json(jsontext.why_malformed(body, error))
    return no_batch() if is_batch(body) else _invalid("a message is a JSON object")


def _not_json(why: object) -> McpError:
    return McpError(errors.PARSE_ERROR, f"The body is not valid JSON: {why}.", reason="parse_error", status=400)


def _invalid(why: str, reason: str = "invalid_request") -> McpError:
    return McpError(errors.INVALID_REQUEST, f"Not a valid JSON-RPC message: {why}.", reason=reason, status=400)
