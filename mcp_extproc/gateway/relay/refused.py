"""A server's own error, where it comes with an HTTP status that says so too: bytes in, bytes out.

Several SDKs end the session on such a status, and Envoy would put an error of its own in the response's place. What the server
says is worth more: the client gets it at 200, bounded in size and without what is configured as a secret, which servers like
to repeat when they refuse it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

import msgspec
import orjson

from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.relay.outcomes import code_of
from mcp_extproc.mcp import envelope, jsontext
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import TooManyMembers

MAX_BODY_BYTES: Final = 64 * 1024
"""Larger bodies are not read: an error has a sentence or two."""

MAX_MESSAGE_CHARS: Final = 1024
MAX_DATA_BYTES: Final = 4096
"""Of ``error.data``, which is left out where it is longer."""

_MAX_DEPTH = 32
_MAX_MEMBERS = 1000


def error_in(body: bytes, entry: CatalogEntry, id: bytes) -> tuple[int, bytes] | None:
    """The code of the JSON-RPC error in a body, and the message with it for the client; ``None`` where there is none.

    Args:
        body: of a response whose status is an error, whole.
        entry: the server.
        id: JSON text of the request's id. The server may not know it, or have read another request.
    """
    found = _read(body)
    if found is None:
        return None
    code, message, error = found
    said: dict[str, Any] = {"code": code, "message": entry.redact(message, MAX_MESSAGE_CHARS)}
    data = bytes(error.get("data") or b"")
    if data and len(data) <= MAX_DATA_BYTES:
        with contextlib.suppress(ValueError):  # such as 1e999
            said["data"] = _without_secrets(data, entry)
    return code, orjson.dumps({"jsonrpc": "2.0", "id": orjson.Fragment(id), "error": said})


def credentials_refused(status: int, body: bytes, entry: CatalogEntry, id: bytes) -> McpError:
    """The error for a response that refuses the credentials, with the server's own words where it is JSON-RPC.

    Args:
        status: 401 or 403.
        body: of the response, whole.
        entry: the server.
        id: JSON text of the request's id.
    """
    found = _read(body)
    own = "" if found is None else entry.redact(found[1], MAX_MESSAGE_CHARS)
    return refusals.credentials_refused(entry.name, status, entry.credential_keys, own).about(id)


def _read(body: bytes) -> tuple[int, str, jsontext.Members] | None:
    """Code, message, and all there is of the JSON-RPC error in a body."""
    if len(body) > MAX_BODY_BYTES:
        return None
    try:
        envelope.check(body, _MAX_DEPTH, _MAX_MEMBERS)
        error = jsontext.object_of(jsontext.split(body).get("error") or b"")
        if error is None:
            return None
        code, message = code_of(error.get("code") or b""), jsontext.text_of(error.get("message") or b"")
    except (McpError, TypeError, TooManyMembers, jsontext.NotJson, msgspec.MsgspecError):
        return None
    return None if message is None else (code, message, error)


def _without_secrets(data: bytes, entry: CatalogEntry) -> orjson.Fragment:
    value = orjson.loads(data)
    json.loads(data, object_pairs_hook=_without_doubles)
    told = _redacted(value, entry)
    # As it was written, where nothing has to go: numbers of any size, and the order of keys.
    return orjson.Fragment(data if told == value else orjson.dumps(told))


def _without_doubles(members: list[tuple[str, object]]) -> None:
    """Of members of one name only the last would be looked at, and a reader may take another one.

    Raises:
        ValueError: there are some.
    """
    if len({name for name, _ in members}) < len(members):
        raise ValueError("a name is there twice")


def _redacted(value: Any, entry: CatalogEntry) -> Any:
    match value:
        case str():
            return entry.redact(value, len(value))
        case list():
            return [_redacted(item, entry) for item in value]
        case dict():
            return {entry.redact(key, len(key)): _redacted(item, entry) for key, item in value.items()}
    return value
