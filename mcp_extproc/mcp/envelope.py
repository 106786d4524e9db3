"""JSON-RPC 2.0 messages as MCP sends them: read strictly, rewritten without touching a byte that is not ours.

Contract of :func:`parse`: a :data:`Message`, or :class:`McpError` with the HTTP status the transport demands. Anything else
that escapes is a bug here.

Sources: JSON-RPC 2.0; MCP 2025-11-25 basic/index (Messages) and basic/transports (Sending Messages to the Server).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from mcp_extproc.mcp import errors, jsontext
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import DuplicateMember, Members, NotJson

MAX_ID_BYTES = 1024
"""Longest id, as JSON text. It travels in metadata, logs and error answers; SDKs send numbers or UUIDs."""

MAX_METHOD_CHARS = 128

_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_METHOD = re.compile(r"[\x21-\x7e]+")
_FIRST_CHARACTER = re.compile(rb"[ \t\n\r]*(.)", re.DOTALL)

# Go's encoding/json matches names without regard to case, so a server could read `PARAMS` where policy read `params`.
_ENVELOPE_NAMES = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS_NAMES = frozenset({
    "name", "uri", "ref", "arguments", "_meta", "protocolVersion", "capabilities", "clientInfo", "cursor", "requestId",
})  # fmt: skip
_FOLDED = {name.casefold(): name for name in _ENVELOPE_NAMES | _PARAMS_NAMES}


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    body: bytes = field(repr=False)
    """The message as it came."""
    members: Members = field(repr=False)
    params: Members = field(repr=False)
    """Members of ``params``; empty where there is none."""

    def text(self, name: str) -> str | None:
        """A string member of ``params``, or ``None`` where it is absent or no string."""
        raw = self.params.get(name)
        return None if raw is None else jsontext.text_of(raw)

    def replaced(self, name: str, value: bytes) -> bytes:
        """The message with the JSON text of one existing member of ``params`` replaced, every other byte as it came."""
        params = jsontext.replace(bytes(self.members["params"]), self.params, name, value)
        return jsontext.replace(self.body, self.members, "params", params)


@dataclass(frozen=True, slots=True)
class Request(_Call):
    """A message that wants an answer."""

    id: bytes
    """JSON text of the id, digit for digit: clients tell ``1`` from ``"1"``, and integers may exceed 2**53."""


@dataclass(frozen=True, slots=True)
class Notification(_Call):
    """A message without id: it gets 202 and no answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """A client's answer to a request of a server."""

    id: bytes
    body: bytes = field(repr=False)
    members: Members = field(repr=False)


Message = Request | Notification | Response


def parse(body: bytes, max_depth: int) -> Message:
    """Read one message.

    Raises:
        McpError: 400 with -32700 (not JSON) or -32600 (not a JSON-RPC message, or one with two meanings); ``id`` is set
            where it was valid.
    """
    try:
        jsontext.check_text(body, max_depth)
        members = jsontext.split(body)
    except NotJson as error:
        raise McpError(
            errors.PARSE_ERROR, f"The body is not valid JSON: {error}.", reason="parse_error", status=400
        ) from None
    except TypeError:
        raise _not_an_object(body) from None
    id = _read_id(members)
    try:
        return _read(body, members, id)
    except McpError as error:
        raise error.about(None if error.reason == "duplicate_id" else id) from None


def _read(body: bytes, members: Members, id: bytes | None) -> Message:
    _refuse_second_meanings(body, members, _ENVELOPE_NAMES)
    version = members.get("jsonrpc")
    if version is None or jsontext.text_of(version) != "2.0":
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
    params = _read_params(members)
    if id is None:
        return Notification(method=method, body=body, members=members, params=params)
    return Request(method=method, body=body, members=members, params=params, id=id)


def _read_response(body: bytes, members: Members, id: bytes | None) -> Response:
    if ("result" in members) == ("error" in members) or id is None:
        raise _invalid('expected "method", or "id" with either "result" or "error"')
    return Response(id=id, body=body, members=members)


def _read_params(members: Members) -> Members:
    raw = members.get("params")
    if raw is None:
        return {}
    try:
        params = jsontext.split(raw)
    except TypeError:
        raise _invalid('"params" has to be an object') from None
    _refuse_second_meanings(raw, params, _PARAMS_NAMES)
    return params


def _refuse_second_meanings(text: bytes | msgspec.Raw, members: Members, names: frozenset[str]) -> None:
    for name in members:
        if name not in names and (meant := _FOLDED.get(name.casefold())) in names:
            raise _invalid(f'"{name}" differs from "{meant}" only in case, which servers may read as the same')
    if not jsontext.is_compact(text, members):
        try:
            jsontext.offsets(bytes(text), members)
        except DuplicateMember as duplicate:
            reason = "duplicate_id" if str(duplicate) == "id" else "duplicate_member"
            raise _invalid(f'the member "{duplicate}" is given twice', reason) from None


def _read_id(members: Members) -> bytes | None:
    raw = members.get("id")
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
        why = str(error).removeprefix("JSON is malformed: ")
        return McpError(errors.PARSE_ERROR, f"The body is not valid JSON: {why}.", reason="parse_error", status=400)
    first = _FIRST_CHARACTER.match(body)
    if first is not None and first[1] == b"[":
        return _invalid("batches are not accepted: send one message in each POST")
    return _invalid("a message is a JSON object")


def _invalid(why: str, reason: str = "invalid_request") -> McpError:
    return McpError(errors.INVALID_REQUEST, f"Not a valid JSON-RPC message: {why}.", reason=reason, status=400)
