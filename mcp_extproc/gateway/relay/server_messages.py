"""Messages of servers on their way to a client: answered here, dropped, or adapted and passed on.

One place for every way down: the response of a call, an event of its stream, an event of a GET stream.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import orjson

from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.authorization.judging import Sight
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.hidden import is_not_found, without_hidden
from mcp_extproc.gateway.relay.identifiers import (
    MAX_UPSTREAM_ID_BYTES,
    ClientView,
    Identifiers,
    id_for_client,
    id_for_server,
)
from mcp_extproc.mcp import errors, jsontext, methods, versions
from mcp_extproc.mcp.envelope import as_answer, has_variants, is_error, result, with_id
from mcp_extproc.mcp.jsontext import Members, Places
from mcp_extproc.mcp.methods import Label, Method, Relaying, ServerMethod
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.uris import Uris
from mcp_extproc.slices import Slices, whole

ANY_TOKEN = b""
"""Stands for a progress token that is not known."""


class Call(msgspec.Struct, frozen=True):
    """The request whose stream a message came on."""

    method: str
    progress_token: bytes | None
    """JSON text; ``None`` where the client wants no progress, :data:`ANY_TOKEN` on a stream that was resumed."""
    id: bytes | None = None
    """Of the request, as the client wrote it. ``None`` on a stream that is resumed after an event of release 0.2, whose id did
    not name it."""

    @property
    def is_resumed(self) -> bool:
        """Whether the stream was resumed."""
        return self.progress_token == ANY_TOKEN


class Relayed(msgspec.Struct, frozen=True):
    """The decision about one message."""

    down: bytes | None = None
    """For the client."""
    up: bytes | None = None
    """For the server: an answer that is given here."""
    changed: str | None = None
    """The capability (``tools``, ``prompts``, ``resources``) whose lists changed. Several such messages may become one."""
    is_response: bool = False
    is_error: bool = False
    """Whether it is one that says that the request failed."""


_DROPPED = Relayed()


class Naming(Protocol):
    """How clients tell servers apart (see :class:`mcp_extproc.gateway.catalog.Catalog`)."""

    @property
    def endpoint(self) -> str:
        """Name of the endpoint."""

    @property
    def path(self) -> str:
        """Of the endpoint."""

    @property
    def several(self) -> bool:
        """Whether there are several."""

    @property
    def uris(self) -> Uris:
        """Whose a URI is."""

    @property
    def checksum(self) -> int:
        """Of the configuration, rules included."""


class Relay:
    """The rules for one client session.

    Args:
        view: the session.
        naming: of the servers that it gets messages of.
        identifiers: seals ids.
        memory: the session's log level and running requests.
        sight: which resources the client may see; ``None`` for all.
    """

    def __init__(
        self,
        view: ClientView,
        naming: Naming,
        identifiers: Identifiers,
        memory: SessionMemory,
        sight: Sight | None = None,
    ) -> None:
        self.view = view
        self.naming = naming
        self._identifiers = identifiers
        self._memory = memory
        self.sight = sight

    def message(self, server: str, session: UpstreamSession, text: bytes, call: Call | None) -> Relayed:
        """Decide about one message.

        Args:
            server: that sent it.
            session: with this server.
            text: the message.
            call: whose stream it came on; ``None`` for the stream of a GET.
        """
        try:
            if not text.isascii():
                text.decode("utf-8")
            members = jsontext.split(text)
            if has_variants(members):
                return _DROPPED
            return self._message(server, session, text, members, call)
        except (UnicodeDecodeError, TypeError, jsontext.NotJson):
            return _DROPPED  # what can't be read does not pass

    def messaging(self, server: str, session: UpstreamSession, text: bytes, call: Call | None) -> Slices[Relayed]:
        """The same in slices: others may run between two of them."""
        try:
            if not text.isascii():
                text.decode("utf-8")
            yield
            members = jsontext.split(text)
            yield
            if has_variants(members):
                return _DROPPED
            if "method" not in members:
                return (yield from self._responding(server, session.version, text, members, call))
            return self._message(server, session, text, members, call)
        except (UnicodeDecodeError, TypeError, jsontext.NotJson):
            return _DROPPED

    def _message(
        self, server: str, session: UpstreamSession, text: bytes, members: Members, call: Call | None
    ) -> Relayed:
        if "method" not in members:
            return whole(self._responding(server, session.version, text, members, call))
        method = jsontext.text_of(members["method"])
        if method is None:
            return _DROPPED
        if "id" in members:
            return self._request(server, session, method, text, members)
        return self._notification(server, session, method, text, members, call)

    # -- Responses ------------------------------------------------------------------------------------------------------

    def _responding(
        self, server: str, version: str, text: bytes, members: Members, call: Call | None
    ) -> Slices[Relayed]:
        if call is None or not ("result" in members or "error" in members):
            return _DROPPED
        own = _answer_to(call, text, members)
        if own is None:
            return _DROPPED
        yield
        if own is not text:
            text, members = own, jsontext.split(own)
        row = methods.REQUESTS.get(call.method)
        if is_error(members):
            if self._is_not_found(row, members["error"]):
                own = errors.render(refusals.unknown_resource(None).about(bytes(members["id"])))
                return Relayed(own, is_response=True, is_error=True)
            edited = self._error(server, members["error"])
            return Relayed(_with(text, members, "error", edited), is_response=True, is_error=True)
        if row is None:
            return Relayed(text, is_response=True)
        shown = self._without_hidden(server, members["result"]) if row.has_content else None
        edited = yield from self._changing_uris(server, shown or members["result"], row.uris)
        edited = edited or shown
        yield
        if row.has_content and self.view.version == versions.V_2025_03_26 < version:
            edited = _links_to_text(edited or bytes(members["result"])) or edited
        return Relayed(_with(text, members, "result", edited), is_response=True)

    def lets_pass(self, server: str, session: UpstreamSession, result: bytes, call: Call) -> bool:
        """Whether a result is nothing that :meth:`message` would change."""
        row = methods.REQUESTS.get(call.method)
        if row is None:
            return True
        hides = self.sight is not None and self.sight.is_limited
        is_older = self.view.version == versions.V_2025_03_26 < session.version
        if row.has_content and (hides or is_older):
            return False
        return self._uris(server, result, row.uris) is None

    def _without_hidden(self, server: str, result: msgspec.Raw) -> bytes | None:
        sight = self.sight
        if sight is None or not sight.is_limited:
            return None
        return without_hidden(result, lambda uri: sight.may_see(server, uri))

    def _is_not_found(self, row: Method | None, error: msgspec.Raw) -> bool:
        """Whether the server's words for a resource that is not there would tell it from one that may not be seen."""
        return row is not None and self.sight is not None and self.sight.is_limited and is_not_found(row, error)

    def _error(self, server: str, error: msgspec.Raw) -> bytes | None:
        edited = self._uris(server, error, methods.ERROR_URIS)
        if self.naming.several and b"elicitations" in (edited or bytes(error)):
            labelled = jsontext.edit(
                edited or error,
                methods.ERROR_ELICITATIONS,
                lambda own: _labelled(server, methods.ELICITATION_LABEL, own),
            )
            edited = labelled or edited
        return edited

    def _uris(self, server: str, value: msgspec.Raw | bytes, where: Places) -> bytes | None:
        return whole(self._changing_uris(server, value, where))

    def _changing_uris(self, server: str, value: msgspec.Raw | bytes, where: Places) -> Slices[bytes | None]:
        if where is None or not self.naming.uris.may_change:
            return None
        return (yield from jsontext.editing(value, where, lambda uri: self.naming.uris.visible(server, uri)))

    # -- Requests -------------------------------------------------------------------------------------------------------

    def _request(self, server: str, session: UpstreamSession, method: str, text: bytes, members: Members) -> Relayed:
        id = bytes(members["id"])
        row = methods.SERVER_REQUESTS.get(method)
        if row is not None and row.relaying is Relaying.ANSWER:
            return Relayed(up=result(id, {}))
        params = jsontext.object_in(members, "params") or {}
        if row is None or row.client_flag not in self.view.flags:
            return _refused(id, errors.METHOD_NOT_FOUND, f"The client does not offer {method}.", "client_capability")
        if (missing := self._missing(row, params)) is not None:
            return _refused(id, errors.INVALID_PARAMS, missing, "client_capability")
        if len(id) > MAX_UPSTREAM_ID_BYTES:
            return _refused(id, errors.INVALID_REQUEST, "The id is too long.", "id_too_long")
        sealed = self._identifiers.own("request", self.view, server, session, id)
        edited = dict(params) | self._adapted(server, row, params)
        if (meta := self._sealed_progress_token(server, session, params)) is not None:
            edited["_meta"] = msgspec.Raw(meta)
        raw = jsontext.join(edited) if edited != params else None
        if params and (moved := self._uris(server, raw or members["params"], row.uris)) is not None:
            raw = moved
        text = _with(text, members, "params", raw)
        return Relayed(down=with_id(text, jsontext.split(text), sealed))

    def _missing(self, row: ServerMethod, params: Members) -> str | None:
        """Why the client can't be asked in the form that the server chose."""
        for variant in row.variants:
            wanted = jsontext.text_in(params, variant.member) if variant.member in params else variant.default
            asks = variant.member in params or variant.default is not None
            if asks and variant.flag.format(wanted) not in self.view.flags:
                return variant.refused
        return None

    def _adapted(self, server: str, row: ServerMethod, params: Members) -> Members:
        """Members of ``params`` that read differently behind a gateway."""
        if not row.replaced and not row.labels:
            return {}
        changed = {member: msgspec.Raw(orjson.dumps(text)) for member, text in row.replaced if member in params}
        if not self.naming.several:
            return changed
        for label in row.labels:
            own = jsontext.text_in(params, label.member)
            if own is not None or label.always:
                changed[label.member] = msgspec.Raw(orjson.dumps(_labelled(server, label, own)))
        return changed

    def _sealed_progress_token(self, server: str, session: UpstreamSession, params: Members) -> bytes | None:
        meta = jsontext.object_in(params, "_meta") or {}
        token = meta.get("progressToken")
        if token is None or len(bytes(token)) > MAX_UPSTREAM_ID_BYTES:
            return None
        sealed = self._identifiers.own("progress", self.view, server, session, bytes(token))
        return jsontext.join({**meta, "progressToken": msgspec.Raw(sealed)})

    # -- Notifications --------------------------------------------------------------------------------------------------

    def _notification(
        self, server: str, session: UpstreamSession, method: str, text: bytes, members: Members, call: Call | None
    ) -> Relayed:
        row = methods.SERVER_NOTIFICATIONS.get(method)
        if row is None:
            return Relayed(down=text)
        if row.relaying is Relaying.LIST_CHANGED:
            self._memory.forget_owners(self.view.key)
            return Relayed(changed=row.capability)
        params = jsontext.object_in(members, "params") or {}
        if not self._passes(row, params, call) or not self._is_visible(server, row, params):
            return _DROPPED
        changed = self._adapted(server, row, params)
        if row.relaying is Relaying.CANCEL:
            id = bytes(params["requestId"])
            changed["requestId"] = msgspec.Raw(self._identifiers.own("request", self.view, server, session, id))
        raw = jsontext.join({**params, **changed}) if changed else None
        if params and row.uris is not None:
            raw = self._uris(server, raw or members["params"], row.uris) or raw
        return Relayed(down=_with(text, members, "params", raw))

    def _passes(self, row: ServerMethod, params: Members, call: Call | None) -> bool:
        """Whether a notification is of use to the client."""
        if row.client_flag is not None and row.client_flag not in self.view.flags:
            return False
        match row.relaying:
            case Relaying.BY_PROGRESS:
                return self._is_expected(params.get("progressToken"), call)
            case Relaying.DROP:
                return False
            case Relaying.BY_LEVEL:
                return not self._below_level(params)
            case Relaying.CANCEL:
                return "requestId" in params
        return True

    def _is_visible(self, server: str, row: ServerMethod, params: Members) -> bool:
        """Whether the client may see the resource that a notification is about."""
        if self.sight is None or not row.about_resource:
            return True
        uri = jsontext.text_in(params, "uri")
        return uri is not None and self.sight.may_see(server, uri)

    def _below_level(self, params: Members) -> bool:
        wanted, level = self._memory.level(self.view.key), jsontext.text_in(params, "level")
        if wanted is None or level not in methods.LOG_LEVELS:
            return False
        return methods.LOG_LEVELS.index(level) < methods.LOG_LEVELS.index(wanted)

    def _is_expected(self, token: msgspec.Raw | None, call: Call | None) -> bool:
        """Some clients drop the connection on progress that they do not expect."""
        if token is None:
            return False
        if call is None:
            return self._memory.is_running(self.view.key, bytes(token))
        return call.progress_token in (bytes(token), ANY_TOKEN)


def _answer_to(call: Call, text: bytes, members: Members) -> bytes | None:
    """A response as the client's request gets it, or ``None`` for one to another request: clients go by the id alone, and
    would take it for the answer of another server."""
    if call.id is not None:
        return as_answer(text, members, call.id, id_for_server(call.id))
    if "id" not in members:
        return None
    id = bytes(members["id"])
    own = id_for_client(id)
    return text if own == id else with_id(text, members, own)


def _refused(id: bytes, code: int, message: str, reason: str) -> Relayed:
    return Relayed(up=errors.render(errors.McpError(code, message, reason=reason, id=id)))


def _labelled(server: str, label: Label, own: str | None) -> str:
    return server if label.always and not own else f"{server}{label.separator}{own}"


def _with(text: bytes, members: Members, name: str, value: bytes | None) -> bytes:
    """The message with one member replaced, every other byte as it was."""
    if value is None:
        return text
    if name not in members:
        return jsontext.join({**members, name: msgspec.Raw(value)})
    try:
        return jsontext.replace(text, members, name, value)
    except jsontext.DuplicateMember:
        return jsontext.join({**members, name: msgspec.Raw(value)})


# -- Older clients --------------------------------------------------------------------------------------------------------


def _links_to_text(result: bytes) -> bytes | None:
    """``resource_link`` blocks (2025-06-18) as text, for clients at 2025-03-26; ``None`` where there are none."""
    if b"resource_link" not in result:
        return None
    members = jsontext.object_of(result) or {}
    if "content" in members:
        return jsontext.join(_content_to_text(members))
    messages = jsontext.elements_of(members["messages"]) if "messages" in members else None
    if messages is None:
        return None
    edited = [
        jsontext.join(_content_to_text(read)) if (read := jsontext.object_of(raw)) else bytes(raw) for raw in messages
    ]
    return jsontext.join({**members, "messages": msgspec.Raw(b"[%b]" % b",".join(edited))})


def _content_to_text(members: Members) -> Members:
    """A tool's result, whose ``content`` is an array of blocks, or a prompt's message, where it is one block."""
    if "content" not in members:
        return members
    blocks = jsontext.elements_of(members["content"])
    if blocks is None:
        return {**members, "content": msgspec.Raw(_link_to_text(members["content"]))}
    return {**members, "content": msgspec.Raw(b"[%b]" % b",".join(map(_link_to_text, blocks)))}


def _link_to_text(block: msgspec.Raw) -> bytes:
    members = jsontext.object_of(block) or {}
    if jsontext.text_in(members, "type") != "resource_link":
        return bytes(block)
    title = jsontext.text_in(members, "title") or jsontext.text_in(members, "name") or "Resource"
    return orjson.dumps({"type": "text", "text": f"{title}: {jsontext.text_in(members, 'uri') or ''}"})
