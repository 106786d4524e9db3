"""Messages of servers on their way to a client: what is answered here, what is dropped, and what becomes of the rest.

One place for every way down: the response of a call, an event of its stream, an event of a GET stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import orjson

from mcp_extproc.gateway import merge
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import MAX_UPSTREAM_ID_BYTES, ClientView, Identifiers, id_for_client
from mcp_extproc.mcp import errors, jsontext, methods, versions
from mcp_extproc.mcp.envelope import with_id
from mcp_extproc.mcp.jsontext import Members, Places
from mcp_extproc.mcp.sessions import UpstreamSession

_ELICITATION_IDS = jsontext.places("data.elicitations[].elicitationId")

ANY_TOKEN = b""
"""Stands for a progress token that is not known."""


class Call(msgspec.Struct, frozen=True):
    """The request whose stream a message came on."""

    method: str
    progress_token: bytes | None
    """JSON text; ``None`` where the client wants no progress, :data:`ANY_TOKEN` on a stream that was resumed."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What becomes of one message."""

    down: bytes | None = None
    """For the client."""
    up: bytes | None = None
    """For the server: an answer that is given here."""
    changed: str | None = None
    """The capability (``tools``, ``prompts``, ``resources``) whose lists changed. Several such messages may become one."""
    is_response: bool = False


_DROPPED = Relayed()


class Relay:
    """The rules for one client session.

    Args:
        view: the session.
        catalog: servers and their names.
        identifiers: seals ids.
        memory: the session's log level and running requests.
    """

    def __init__(self, view: ClientView, catalog: Catalog, identifiers: Identifiers, memory: SessionMemory) -> None:
        self.view = view
        self._catalog = catalog
        self._identifiers = identifiers
        self._memory = memory

    def message(self, server: str, session: UpstreamSession, text: bytes, call: Call | None) -> Relayed:
        """Decide about one message.

        Args:
            server: that sent it.
            session: with this server.
            text: the message.
            call: whose stream it came on; ``None`` for the stream of a GET.
        """
        try:
            text.decode("utf-8")
            members = jsontext.split(text)
        except (UnicodeDecodeError, TypeError, jsontext.NotJson):
            return _DROPPED
        if "method" not in members:
            return self._response(server, session.version, text, members, call)
        method = jsontext.text_of(members["method"])
        if method is None:
            return _DROPPED
        if "id" in members:
            return self._request(server, session, method, text, members)
        return self._notification(server, session, method, text, members, call)

    # -- Responses ------------------------------------------------------------------------------------------------------

    def _response(self, server: str, version: str, text: bytes, members: Members, call: Call | None) -> Relayed:
        if call is None or "id" not in members or not ("result" in members or "error" in members):
            return _DROPPED
        id = bytes(members["id"])
        if (own := id_for_client(id)) != id:
            text = with_id(text, members, own)
            members = jsontext.split(text)
        if "error" in members:
            edited = self._error(server, members["error"])
            return Relayed(_with(text, members, "error", edited), is_response=True)
        row = methods.REQUESTS.get(call.method)
        result = self._uris(server, members["result"], row.uris if row is not None else None)
        if self.view.version == versions.V_2025_03_26 < version and call.method in ("tools/call", "prompts/get"):
            result = _links_to_text(result or bytes(members["result"])) or result
        return Relayed(_with(text, members, "result", result), is_response=True)

    def _error(self, server: str, error: msgspec.Raw) -> bytes | None:
        edited = self._uris(server, error, methods.ERROR_URIS)
        if self._catalog.several and b"elicitations" in (edited or bytes(error)):
            edited = jsontext.edit(edited or error, _ELICITATION_IDS, lambda own: f"{server}:{own}") or edited
        return edited

    def _uris(self, server: str, value: msgspec.Raw | bytes, where: Places) -> bytes | None:
        if where is None or not self._catalog.uris.rewrites(server):
            return None
        return jsontext.edit(value, where, lambda uri: self._catalog.uris.visible(server, uri))

    # -- Requests -------------------------------------------------------------------------------------------------------

    def _request(self, server: str, session: UpstreamSession, method: str, text: bytes, members: Members) -> Relayed:
        id = bytes(members["id"])
        if method == "ping":
            return Relayed(up=merge.result(id, {}))
        params = jsontext.object_in(members, "params") or {}
        refusal = self._refusal(method, id, params)
        if refusal is not None:
            return Relayed(up=errors.render(refusal.about(id)))
        row = methods.SERVER_REQUESTS[method]
        sealed = self._identifiers.own("request", self.view, server, session, id)
        edited = dict(params)
        if (meta := self._sealed_progress_token(server, session, params)) is not None:
            edited["_meta"] = msgspec.Raw(meta)
        for name, value in self._adapted(server, method, params).items():
            edited[name] = msgspec.Raw(orjson.dumps(value))
        raw = jsontext.join(edited) if edited != params else None
        if params and (moved := self._uris(server, raw or members["params"], row.uris)) is not None:
            raw = moved
        text = _with(text, members, "params", raw)
        return Relayed(down=with_id(text, jsontext.split(text), sealed))

    def _refusal(self, method: str, id: bytes, params: Members) -> errors.McpError | None:
        row = methods.SERVER_REQUESTS.get(method)
        if row is None or row.client_flag not in self.view.flags:
            return errors.McpError(
                errors.METHOD_NOT_FOUND, f"The client does not offer {method}.", reason="client_capability"
            )
        if method == "sampling/createMessage" and "tools" in params and "sampling.tools" not in self.view.flags:
            # Clients that do not know of tools would answer without them.
            return errors.McpError(
                errors.INVALID_PARAMS, "The client does not offer sampling with tools.", reason="client_capability"
            )
        if len(id) > MAX_UPSTREAM_ID_BYTES:
            return errors.McpError(errors.INVALID_REQUEST, "The id is too long.", reason="id_too_long")
        if method == "elicitation/create":
            mode = jsontext.text_in(params, "mode") if "mode" in params else "form"
            if f"elicitation.{mode}" not in self.view.flags:
                return errors.McpError(
                    errors.INVALID_PARAMS,
                    "The client does not offer this mode of elicitation.",
                    reason="client_capability",
                )
        return None

    def _adapted(self, server: str, method: str, params: Members) -> dict[str, str]:
        """Members of ``params`` that read differently behind a gateway."""
        changed: dict[str, str] = {}
        if method == "sampling/createMessage" and "includeContext" in params:
            # Context of one server, or of all, is not this server's to have.
            changed["includeContext"] = "none"
        if method == "elicitation/create" and self._catalog.several:
            # People have to know who asks.
            if (message := jsontext.text_in(params, "message")) is not None:
                changed["message"] = f"{server}: {message}"
            if (elicitation := jsontext.text_in(params, "elicitationId")) is not None:
                changed["elicitationId"] = f"{server}:{elicitation}"
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
        params = jsontext.object_in(members, "params") or {}
        changed: dict[str, bytes] = {}
        match method:
            case _ if method in methods.LIST_CHANGED:
                self._memory.forget_owners(self.view.session_id)
                return Relayed(changed=methods.LIST_CHANGED[method])
            case "notifications/message":
                if self._below_level(params):
                    return _DROPPED
                if self._catalog.several:
                    logger = jsontext.text_in(params, "logger")
                    changed["logger"] = orjson.dumps(f"{server}/{logger}" if logger else server)
            case "notifications/progress":
                if not self._is_expected(params.get("progressToken"), call):
                    return _DROPPED
            case "notifications/resources/updated":
                if (uri := jsontext.text_in(params, "uri")) is not None:
                    changed["uri"] = orjson.dumps(self._catalog.uris.visible(server, uri))
            case "notifications/cancelled":
                if "requestId" not in params:
                    return _DROPPED
                id = bytes(params["requestId"])
                changed["requestId"] = self._identifiers.own("request", self.view, server, session, id)
            case "notifications/elicitation/complete":
                if "elicitation.url" not in self.view.flags:
                    return _DROPPED
                if self._catalog.several and (own := jsontext.text_in(params, "elicitationId")) is not None:
                    changed["elicitationId"] = orjson.dumps(f"{server}:{own}")
            case "notifications/tasks/status":
                return _DROPPED  # tasks are not offered
        if not changed:
            return Relayed(down=text)
        raw = jsontext.join({**params, **{name: msgspec.Raw(value) for name, value in changed.items()}})
        return Relayed(down=_with(text, members, "params", raw))

    def _below_level(self, params: Members) -> bool:
        wanted, level = self._memory.level(self.view.session_id), jsontext.text_in(params, "level")
        if wanted is None or level not in methods.LOG_LEVELS:
            return False
        return methods.LOG_LEVELS.index(level) < methods.LOG_LEVELS.index(wanted)

    def _is_expected(self, token: msgspec.Raw | None, call: Call | None) -> bool:
        """Some clients drop the connection on progress that they do not expect."""
        if token is None:
            return False
        if call is None:
            return self._memory.is_running(self.view.session_id, bytes(token))
        return call.progress_token in (bytes(token), ANY_TOKEN)


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
