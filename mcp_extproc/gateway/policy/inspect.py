"""Pass-through: parses requests on routes of the operator's own, for Envoy's policies. The request itself does not change.

A policy that denies can't deny what it does not see. So a body that two parsers could read differently, or that can't be
parsed, is refused, unless the operator chose otherwise (``traffic_mode``); then the metadata has the reason.

Keys and words are those of Envoy's own MCP filter where it has them (Envoy 1.40, ``envoy.filters.http.mcp``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import REQUEST_ID_HEADER, SERVER_HEADER
from mcp_extproc.gateway import refusals, replies
from mcp_extproc.gateway.decision import Reply
from mcp_extproc.gateway.facts import NOTHING, Metadata, id_metadata
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.request import Headers, RequestHead
from mcp_extproc.mcp import envelope, jsontext, methods, transport
from mcp_extproc.mcp.envelope import Message, Request, Response
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.jsontext import TooManyMembers
from mcp_extproc.mcp.methods import Handling
from mcp_extproc.mcp.names import MAX_NAME_CHARS, header_value, is_plain

HOISTED: Final = ("mcp-method", "mcp-name", REQUEST_ID_HEADER, SERVER_HEADER)
"""Headers that policies may match on. What a client sent in them is replaced or removed."""

READS: Final = (
    ":method", "content-encoding", "content-length", "content-type", "mcp-protocol-version", "mcp-session-id",
)  # fmt: skip
"""What is looked at of a request's head."""

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""They open streams, end sessions, and ask what a page may do."""

_WORDS: Final[Mapping[str, str]] = {
    "parse_error": "mcp_parse_error",
    "duplicate_id": "mcp_duplicate_keys",
    "duplicate_member": "mcp_duplicate_keys",
    "invalid_request": "mcp_not_jsonrpc",
    "too_large": "mcp_body_too_large",
}
"""Envoy's words for our reasons. Others are ours with ``mcp_`` in front."""

_NEEDED: Final[Mapping[Handling, str]] = {Handling.BY_NAME: "name", Handling.BY_URI: "uri"}
"""The string in ``params`` without which a policy could not know what a request is about."""

_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class ReadBody:
    """The head alone is not enough to classify the request."""

    fits: bool
    """Whether the body is known not to exceed the limit."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request ends here."""

    reply: Reply
    facts: Metadata


@dataclass(frozen=True, slots=True)
class Pass:
    """The request goes on as it is, to the policies and to where Envoy routes it."""

    facts: Metadata
    set_headers: Headers = ()
    is_mcp: bool = False
    """Whether it is a message that was read."""

    @property
    def remove_headers(self) -> tuple[str, ...]:
        """The client's headers that must not reach a policy, in both spellings that services take for the same."""
        told = {name for name, _ in self.set_headers}
        return tuple(name for name in _SPELLINGS if name not in told)


_SPELLINGS: Final = tuple(dict.fromkeys((*HOISTED, *(name.replace("-", "_") for name in HOISTED))))


def by_head(head: RequestHead, *, has_body: bool, config: GatewayConfig) -> ReadBody | Pass | Refusal:
    """Judge a request by its head.

    Args:
        head: with the headers in :data:`READS`.
        has_body: whether more follows, which may turn out to be empty.
        config: decides about requests that can't be parsed.
    """
    try:
        if head.method in _WITHOUT_BODY:
            if has_body:
                raise refusals.unread_body(head.method)
            return Pass(_about(head))
        if head.method != "POST":
            raise refusals.unread_method(head.method)
        _check_post(head, config)
    except McpError as error:
        return _unread(error, head, config)
    return ReadBody(fits=_content_length(head) is not None)


def by_body(head: RequestHead, body: bytes, *, whole: bool, config: GatewayConfig) -> Pass | Refusal:
    """Judge a POST by its body.

    Args:
        head: as it passed :func:`by_head`.
        body: all of it, or as much as Envoy holds.
        whole: whether it is all.
        config: has the limits, and decides about requests that can't be parsed.
    """
    try:
        if len(body) > config.limits.request_bytes:
            raise refusals.too_large(config.limits.request_bytes)
        if not whole:
            raise refusals.not_held(len(body))
        if envelope.is_batch(body):
            raise refusals.unread_batch()
        message = envelope.parse(body, config.limits.json_depth, config.limits.json_members)
        try:
            return _read(head, message)
        except (McpError, TooManyMembers) as error:
            raise _in_params(error).about(message.id if isinstance(message, Request) else None) from None
    except McpError as error:
        return _unread(error, head, config)


def _in_params(error: McpError | TooManyMembers) -> McpError:
    return error if isinstance(error, McpError) else envelope.too_many_members(f'"params" holds {error}')


def _check_post(head: RequestHead, config: GatewayConfig) -> None:
    content_type = head.headers.get("content-type", "")
    if transport.media_type(content_type) != transport.JSON:
        raise refusals.content_type()
    if not transport.is_utf8(content_type):
        raise refusals.charset()
    if "content-encoding" in head.headers:
        raise refusals.content_encoding()
    if (_content_length(head) or 0) > config.limits.request_bytes:
        raise refusals.too_large(config.limits.request_bytes)


def is_whole(head: RequestHead, body: bytes, *, ends: bool) -> bool:
    """Whether Envoy buffered the whole body. With trailers, ``end_of_stream`` is not set, but the length may be known."""
    return ends or _content_length(head) == len(body)


def _content_length(head: RequestHead) -> int | None:
    length = head.headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else None


def _unread(error: McpError, head: RequestHead, config: GatewayConfig) -> Pass | Refusal:
    word = _WORDS.get(error.reason, f"mcp_{error.reason}")
    facts = {**_about(head), "is_mcp_request": False}
    if error.reason == "too_large":
        facts["is_exceeding_limit"] = True
    if config.pass_through.traffic_mode == "pass_through" and not _is_cut_off(error, head):
        return Pass({**facts, "status": "mcp_ok", "passthrough_reason": word})
    if error.id is not None:
        facts |= id_metadata(error.id)
    return refuse(error, {**facts, "status": word})


def refuse(error: McpError, facts: Metadata) -> Refusal:
    """Answer a request with an error."""
    return Refusal(replies.reject(error, NOTHING), {**facts, "error_code": error.code, "error_reason": error.reason})


def _is_cut_off(error: McpError, head: RequestHead) -> bool:
    """Whether Envoy holds a part of a body that it could not let pass: it may have lost the end (docs/design.md)."""
    return error.reason == "too_large" and _content_length(head) is None


# -- Metadata -------------------------------------------------------------------------------------------------------------


def _about(head: RequestHead) -> dict[str, Any]:
    facts = {"http_method": head.method[:16]}
    session, version = head.headers.get("mcp-session-id"), head.headers.get("mcp-protocol-version", "")
    if session is not None:
        # The id is a credential for the session: policies and logs get a short name for it.
        facts["session"] = hashlib.blake2s(session.encode("latin-1", "replace"), digest_size=8).hexdigest()
    if _VERSION.fullmatch(version):
        facts["protocol_version"] = version
    return facts


def _read(head: RequestHead, message: Message) -> Pass:
    facts = {**_about(head), **preview.native_facts(message).metadata()}
    fields: list[tuple[str, str]] = []
    if not isinstance(message, Response):
        _check_params(message, facts)
        fields.append(("mcp-method", message.method))
        method = methods.REQUESTS.get(message.method)
        named = message.text(_NEEDED[method.handling]) if method is not None and method.handling in _NEEDED else None
        if method is not None and named is not None:
            fields.append(("mcp-name", header_value(named)))
            if method.fact is not None:
                facts[method.fact] = named
    if isinstance(message, Request | Response):
        fields.append((REQUEST_ID_HEADER, header_value(message.id.decode())))
    return Pass(facts, tuple(fields), is_mcp=True)


def _check_params(message: envelope.Request | envelope.Notification, facts: Metadata) -> None:
    """What policies read of ``params`` is there, once, of the right kind, and shown in full."""
    method = methods.REQUESTS.get(message.method)
    if method is not None and (needed := _NEEDED.get(method.handling)) is not None and message.text(needed) is None:
        raise refusals.invalid_params(f"{message.method} needs params.{needed}, a string.")
    if method is not None and method.handling is Handling.BY_REF:
        ref = message.object("ref")
        if ref is None or jsontext.text_in(ref, "type") is None:
            raise refusals.invalid_params(f"{message.method} needs params.ref, an object with type.")
    for path in method.policy_params if method is not None else ():
        for member in path[:-1]:
            message.object(member)  # policies read into it
    texts = _texts(facts.get("params", {}))
    if method is not None and method.is_for_one_server and not all(map(is_plain, texts)):
        raise refusals.invalid_params(
            "A name or URI has characters that can't be seen, or blanks at an end, which some servers leave out."
        )
    if any(len(text) > MAX_NAME_CHARS for text in texts):
        raise refusals.invalid_params(
            f"A name or URI is longer than the {MAX_NAME_CHARS} characters that policies read."
        )


def _texts(values: Mapping[str, Any]) -> list[str]:
    return [
        text
        for value in values.values()
        for text in (_texts(value) if isinstance(value, Mapping) else [value] if isinstance(value, str) else [])
    ]
