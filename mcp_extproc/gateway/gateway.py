"""The gateway's mind: what to do with each request. A plain function of request, token, memory and configuration.

Two steps, as Envoy sends a request in two: :meth:`Gateway.admit` judges the headers, :meth:`Gateway.decide` the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from mcp_extproc import __version__
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway import headers, merge
from mcp_extproc.gateway.catalog import Catalog, CatalogEntry
from mcp_extproc.gateway.decision import (
    CloseLeg,
    Decision,
    Facts,
    Failed,
    FanOut,
    Forward,
    Headers,
    ListLeg,
    NeedSession,
    Note,
    NotifyLeg,
    Opened,
    OpenLeg,
    Outcome,
    Reply,
    RequestHead,
    SessionRef,
)
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.mcp import envelope, errors, jsontext, methods, transport, versions
from mcp_extproc.mcp.envelope import Notification, Request, Response
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Handling, Method
from mcp_extproc.mcp.names import header_value
from mcp_extproc.mcp.sessions import BadToken, OpenedSession, Sealer, Session, UpstreamSession

SERVER_INFO = {"name": "mcp-extproc", "version": __version__}

_JSON: Headers = (("content-type", "application/json"),)
_NO_BODY = b""


class Gateway:
    """Decides about requests.

    Args:
        config: the whole configuration.
        sealer: of session tokens.
        memory: what this worker remembers; only read here.
    """

    def __init__(self, config: GatewayConfig, sealer: Sealer, memory: SessionMemory) -> None:
        self.config = config
        self.catalog = Catalog(config)
        self.memory = memory
        self._sealer = sealer
        self._audience = config.listen.path

    # -- Headers ------------------------------------------------------------------------------------------------------

    def admit(self, head: RequestHead, now: float) -> Decision | None:
        """Judge a request by its headers. ``None``: a POST whose body is needed."""
        facts: dict[str, Any] = {}
        try:
            self._check_place(head)
            if head.method == "POST":
                self._check_post(head)
                return None
            if head.method == "DELETE":
                return self._close(head, facts, now)
            raise McpError(
                errors.INVALID_REQUEST,
                f"HTTP method {head.method[:16]} is not served here: send POST, or DELETE to end a session.",
                reason="http_method",
                status=405,
                headers=(("allow", "POST, DELETE"),),
            )
        except McpError as error:
            return _reject(error, facts)

    def _check_place(self, head: RequestHead) -> None:
        if head.path.partition("?")[0] != self._audience:
            raise McpError(
                errors.INVALID_REQUEST, f"Nothing is served here: the MCP endpoint is {self._audience}.",
                reason="path", status=404,
            )  # fmt: skip
        host = head.headers.get("host", "")
        if self.config.listen.is_loopback and not transport.is_loopback_host(host):
            raise McpError(
                errors.INVALID_REQUEST, "This host is not served here: a gateway on a loopback address answers to localhost.",
                reason="host", status=403,
            )  # fmt: skip
        origin = head.headers.get("origin")
        if origin is not None and not transport.origin_allowed(origin, self.config.origins):
            raise McpError(
                errors.INVALID_REQUEST, "Pages of this origin may not call the gateway: see `origins` in its configuration.",
                reason="origin", status=403,
            )  # fmt: skip

    def _check_post(self, head: RequestHead) -> None:
        if transport.media_type(head.headers.get("content-type", "")) != transport.JSON:
            raise McpError(
                errors.INVALID_REQUEST, "The body has to be JSON: send Content-Type: application/json.",
                reason="content_type", status=415,
            )  # fmt: skip
        if "content-encoding" in head.headers:
            raise McpError(
                errors.INVALID_REQUEST, "Encoded bodies are not read: send the JSON without Content-Encoding.",
                reason="content_encoding", status=415,
            )  # fmt: skip
        if not transport.accepts(head.headers.get("accept", ""), transport.JSON, transport.SSE):
            raise McpError(
                errors.INVALID_REQUEST, "Send Accept: application/json, text/event-stream; an answer may be either.",
                reason="accept", status=406,
            )  # fmt: skip
        length = head.headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self.config.limits.request_bytes:
            raise self.too_large()

    def too_large(self) -> McpError:
        """The error of a body over the limit."""
        return McpError(
            errors.INVALID_REQUEST, f"The body is larger than the {self.config.limits.request_bytes} bytes allowed.",
            reason="too_large", status=413,
        )  # fmt: skip

    # -- Body ---------------------------------------------------------------------------------------------------------

    def decide(self, head: RequestHead, body: bytes, now: float) -> Decision:
        """Judge a POST by its body.

        Args:
            head: as it passed :meth:`admit`.
            body: the whole body.
            now: Unix time in seconds.
        """
        facts: dict[str, Any] = {}
        try:
            if len(body) > self.config.limits.request_bytes:
                raise self.too_large()
            message = envelope.parse(body, self.config.limits.json_depth)
            _describe(message, facts)
            try:
                return self._decide(head, message, facts, now)
            except McpError as error:
                raise error.about(message.id if isinstance(message, Request) else None) from None
        except McpError as error:
            return _reject(error, facts)

    def _decide(self, head: RequestHead, message: envelope.Message, facts: dict[str, Any], now: float) -> Decision:
        if not isinstance(message, Response):
            _refuse_modern(head, message)
            if message.method == "initialize":
                if isinstance(message, Notification):
                    raise McpError(
                        errors.INVALID_REQUEST,
                        "initialize is a request and needs an id.",
                        reason="invalid_request",
                        status=400,
                    )
                return self._initialize(message, facts)
        _check_version_header(head)
        opened = self._session(head, facts, now)
        match message:
            case Request():
                return self._request(head, message, opened, facts)
            case Notification():
                return self._notification(message, opened, facts)
            case Response():
                # Only answers to requests that the gateway carried down can belong to somebody; there are none yet.
                return Reply(202, _NO_BODY, facts=facts)

    def _session(self, head: RequestHead, facts: dict[str, Any], now: float) -> OpenedSession:
        token = head.headers.get("mcp-session-id")
        if token is None:
            raise McpError(
                errors.INVALID_REQUEST, "Mcp-Session-Id is missing: send initialize first, then the id it answers with.",
                reason="session_missing", status=400,
            )  # fmt: skip
        try:
            opened = self._sealer.open(token, audience=self._audience, principal="", now=now)
            if self.memory.has_ended(opened.id):
                raise BadToken("ended")
        except BadToken as error:
            facts["session_error"] = str(error)
            raise McpError(
                errors.INVALID_REQUEST, "Session not found: it ended, expired or is not one of this endpoint. Send initialize.",
                reason="session_unknown", status=404,
            ) from None  # fmt: skip
        facts["session"] = opened.id
        facts["protocol_version"] = opened.session.version
        facts["client"] = opened.session.client
        return opened

    def _request(self, head: RequestHead, request: Request, opened: OpenedSession, facts: dict[str, Any]) -> Decision:
        method = methods.REQUESTS.get(request.method)
        if method is None:
            raise McpError(
                errors.METHOD_NOT_FOUND, f"The method {request.method} is not served.", reason="unknown_method"
            )
        match method.handling:
            case Handling.ANSWER:
                return Reply(200, merge.result(request.id, {}), _JSON, facts)
            case Handling.LIST:
                return self._list(method, request, opened, facts)
            case Handling.BY_NAME:
                return self._call(head, request, opened, facts)
            case _:
                raise AssertionError(f"{request.method} is handled before a session is looked for")

    def _notification(self, message: Notification, opened: OpenedSession, facts: dict[str, Any]) -> Decision:
        method = methods.NOTIFICATIONS.get(message.method)
        if method is None or method.handling is Handling.DROP:
            return Reply(202, _NO_BODY, facts=facts)
        legs = tuple(NotifyLeg(name, self._ref(name, opened), message.body) for name in self.catalog.entries)
        return FanOut(
            legs, lambda outcomes, _: Reply(202, _NO_BODY, facts=facts, notes=_failure_notes(outcomes)), facts
        )

    # -- initialize ---------------------------------------------------------------------------------------------------

    def _initialize(self, request: Request, facts: dict[str, Any]) -> FanOut:
        requested = request.text("protocolVersion")
        if requested is None:
            raise McpError(
                errors.INVALID_PARAMS, "initialize needs params.protocolVersion, a string such as 2025-11-25.",
                reason="invalid_params",
            )  # fmt: skip
        version = versions.negotiate(requested)
        client_capabilities = _relayed_capabilities(request)
        facts["protocol_version"] = version
        facts["client"] = _client_name(request)

        def answer(outcomes: Sequence[Outcome], now: float) -> Reply:
            try:
                return self._initialized(request.id, version, client_capabilities, facts, outcomes, now)
            except McpError as error:
                return _reject(error.about(request.id), facts, _failure_notes(outcomes))

        legs = tuple(OpenLeg(name, version, client_capabilities) for name in self.catalog.entries)
        return FanOut(legs, answer, facts)

    def _initialized(
        self,
        id: bytes,
        version: str,
        client_capabilities: bytes,
        facts: dict[str, Any],
        outcomes: Sequence[Outcome],
        now: float,
    ) -> Reply:
        opened = [outcome for outcome in outcomes if isinstance(outcome, Opened)]
        failed = merge.failures(outcomes)
        if not opened:
            raise _all_failed(failed)
        token, session_id = self._sealer.seal(
            Session(
                audience=self._audience,
                principal="",
                version=version,
                expires=int(now + self.config.session.ttl),
                client=facts["client"],
                client_capabilities=client_capabilities,
                upstreams={o.server: o.session for o in opened},
            )
        )
        value: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": merge.capabilities(opened),
            "serverInfo": SERVER_INFO,
            **merge.unavailable_meta(failed),
        }
        if text := merge.instructions(opened):
            value["instructions"] = text
        return Reply(
            200,
            merge.result(id, value),
            (*_JSON, ("mcp-session-id", token)),
            {**facts, "session": session_id, **_unavailable_fact(failed)},
            _failure_notes(outcomes),
        )

    # -- Lists --------------------------------------------------------------------------------------------------------

    def _list(self, method: Method, request: Request, opened: OpenedSession, facts: dict[str, Any]) -> FanOut:
        if "cursor" in request.params:
            # Lists are answered whole, so no cursor of ours exists (server/utilities/pagination, Error Handling).
            raise McpError(
                errors.INVALID_PARAMS, "Unknown cursor: the list is given whole, in one page.", reason="invalid_cursor"
            )
        assert method.items is not None
        assert method.capability is not None
        legs = tuple(
            ListLeg(name, self._ref(name, opened), method.name, method.items, method.capability)
            for name in self.catalog.entries
            if (session := opened.session.upstreams.get(name)) is None or method.capability in session.capabilities
        )
        items = method.items

        def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
            failed = merge.failures(outcomes)
            if outcomes and all(isinstance(outcome, Failed) for outcome in outcomes):
                return _reject(_all_failed(failed).about(request.id), facts, _failure_notes(outcomes))
            entries, notes = merge.named_items(outcomes, self.catalog.visible_tool, self.config.limits.list_items)
            body = merge.result(request.id, {items: entries, **merge.unavailable_meta(failed)})
            return Reply(200, body, _JSON, {**facts, **_unavailable_fact(failed)}, (*_failure_notes(outcomes), *notes))

        return FanOut(legs, answer, facts)

    # -- Calls --------------------------------------------------------------------------------------------------------

    def _call(self, head: RequestHead, request: Request, opened: OpenedSession, facts: dict[str, Any]) -> Decision:
        name = request.text("name")
        if name is None:
            raise McpError(
                errors.INVALID_PARAMS, f"{request.method} needs params.name, a string.", reason="invalid_params"
            )
        found = self.catalog.resolve_tool(name)
        if found is None:
            raise McpError(errors.INVALID_PARAMS, f"Unknown tool: {name[:256]}", reason="unknown_tool")
        entry, tool = found
        facts["server"] = entry.name
        facts["tool"] = tool
        ref = self._ref(entry.name, opened)

        def resume(session: UpstreamSession | Failed) -> Decision:
            if isinstance(session, Failed):
                return _reject(_all_failed([session]).about(request.id), facts, _failure_notes([session]))
            body = request.body if tool == name else request.replaced("name", orjson.dumps(tool))
            return _forward(head, request.method, entry, tool, session, body, facts)

        session = self.memory.current(ref)
        return NeedSession(ref, None, resume) if session is None else resume(session)

    def _ref(self, server: str, opened: OpenedSession) -> SessionRef:
        known = opened.session.upstreams.get(server)
        anchor = known.id if known is not None and known.id is not None else f"token {opened.id}"
        return SessionRef(server, anchor, known, opened.session.version, opened.session.client_capabilities)

    # -- Ends and repairs ---------------------------------------------------------------------------------------------

    def _close(self, head: RequestHead, facts: dict[str, Any], now: float) -> FanOut:
        opened = self._session(head, facts, now)
        legs = tuple(CloseLeg(name, self._ref(name, opened)) for name in self.catalog.entries)

        def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
            return Reply(204, _NO_BODY, facts=facts, notes=_failure_notes(outcomes))

        self.memory.end(opened.id)
        return FanOut(legs, answer, facts)

    def repair(self, server: str, head: RequestHead) -> Decision:
        """A forwarded request came back from Envoy, because the server answered as if it did not know its session.

        Envoy retries such a request at its private listener ``mcp_repair``. The server is initialized again, and the request
        goes there once more with the new session; nothing else of it changes, and its body never visits us.

        Args:
            server: whose request it is, as Envoy's route says.
            head: with the headers that :class:`Forward` had set.
        """
        facts: dict[str, Any] = {"server": server, "repair": "session"}
        lost = head.headers.get("mcp-session-id")
        if lost is None or head.headers.get("x-envoy-attempt-count", "1") == "1":
            # Not a retry: Envoy found no other endpoint of the server to send the request to.
            return Reply(503, _NO_BODY, facts=facts)
        version = head.headers.get("mcp-protocol-version", versions.V_2025_03_26)
        ref = SessionRef(server, lost, None, version, b"{}")

        def resume(session: UpstreamSession | Failed) -> Decision:
            if isinstance(session, Failed):
                return Reply(503, _NO_BODY, facts=facts, notes=_failure_notes([session]))
            set_headers, gone = _session_headers(session)
            return Forward(server, set_headers, gone, _NO_BODY, facts)

        return NeedSession(ref, lost, resume)


def _forward(
    head: RequestHead,
    method: str,
    entry: CatalogEntry,
    tool: str,
    session: UpstreamSession,
    body: bytes,
    facts: Facts,
) -> Forward:
    session_headers, _ = _session_headers(session)
    set_headers: Headers = (
        (":path", entry.path),
        ("accept", "application/json, text/event-stream"),
        ("content-length", str(len(body))),
        ("mcp-method", method),
        ("mcp-name", header_value(tool)),
        ("x-mcp-server", entry.name),
        *session_headers,
        *entry.headers,
    )
    gone = headers.removed(head.headers, (name for name, _ in set_headers))
    return Forward(entry.name, set_headers, gone, body, facts)


def _session_headers(session: UpstreamSession) -> tuple[Headers, tuple[str, ...]]:
    """Headers that carry the gateway's session with a server, and those that must not be there."""
    has_version = versions.defines_version_header(session.version)
    fields = {
        "mcp-session-id": session.id,
        "mcp-protocol-version": session.version if has_version else None,
    }
    return (
        tuple((name, value) for name, value in fields.items() if value is not None),
        tuple(name for name, value in fields.items() if value is None),
    )


def _describe(message: envelope.Message, facts: dict[str, Any]) -> None:
    if isinstance(message, Request | Response):
        facts["id_json"] = message.id.decode()
        facts["id"] = (
            int(message.id) if message.id[:1] != b'"' and len(message.id) < 16 else jsontext.text_of(message.id)
        )
        if facts["id"] is None:
            facts["id"] = message.id.decode()
    if isinstance(message, Response):
        return
    facts["method"] = message.method
    named = {name: text for name in ("name", "uri") if (text := message.text(name)) is not None}
    if named:
        facts["params"] = named


def _refuse_modern(head: RequestHead, message: Request | Notification) -> None:
    """Requests of 2026-07-28 get its own error, on which newer clients fall back to ``initialize``."""
    header = head.headers.get("mcp-protocol-version")
    requested = _meta_version(message)
    if requested is None and message.method != "initialize":
        if header == versions.MODERN:
            requested = header
        elif message.method in methods.MODERN_ONLY and "mcp-session-id" not in head.headers:
            requested = header or versions.MODERN
    if requested is not None:
        raise McpError(
            errors.UNSUPPORTED_PROTOCOL_VERSION,
            f"Protocol version {requested[:64]} is not served here: use initialize with one of {', '.join(versions.SUPPORTED)}.",
            reason="unsupported_protocol_version",
            status=400,
            data={"supported": list(versions.SUPPORTED), "requested": requested[:64]},
        )


def _meta_version(message: Request | Notification) -> str | None:
    raw = message.params.get("_meta")
    if raw is None or versions.META_VERSION_KEY.encode() not in bytes(raw):
        return None
    try:
        meta = jsontext.split(raw)
    except TypeError:
        return None
    value = meta.get(versions.META_VERSION_KEY)
    return None if value is None else jsontext.text_of(value)


def _check_version_header(head: RequestHead) -> None:
    version = head.headers.get("mcp-protocol-version")
    if version is not None and version not in versions.SUPPORTED:
        raise McpError(
            errors.INVALID_REQUEST,
            f"MCP-Protocol-Version {version[:64]} is not supported: use one of {', '.join(versions.SUPPORTED)}.",
            reason="unsupported_protocol_version",
            status=400,
        )


def _relayed_capabilities(request: Request) -> bytes:
    """What the client declared, cut to what the gateway relays."""
    raw = request.params.get("capabilities")
    if raw is None:
        return b"{}"
    try:
        declared = jsontext.split(raw)
    except TypeError:
        raise McpError(
            errors.INVALID_PARAMS, "params.capabilities has to be an object.", reason="invalid_params"
        ) from None
    return jsontext.join({name: raw for name, raw in declared.items() if name in methods.RELAYED_CLIENT_CAPABILITIES})


def _client_name(request: Request) -> str:
    raw = request.params.get("clientInfo")
    try:
        info = jsontext.split(raw) if raw is not None else {}
    except TypeError:
        return ""
    parts = (jsontext.text_of(info[name]) if name in info else None for name in ("name", "version"))
    return "/".join(part for part in parts if part)[:128]


def _reject(error: McpError, facts: dict[str, Any], notes: tuple[Note, ...] = ()) -> Reply:
    told = {**facts, "error_code": error.code, "error_reason": error.reason}
    return Reply(error.status, errors.render(error), (*_JSON, *error.headers), told, notes)


def _all_failed(failed: Sequence[Failed]) -> McpError:
    what = merge.summary(failed) or "no server has been asked"
    return McpError(errors.INTERNAL_ERROR, f"No answer: {what}.", reason="upstream_unavailable")


def _unavailable_fact(failed: Sequence[Failed]) -> dict[str, str]:
    return {"unavailable": ",".join(f.server for f in failed)} if failed else {}


def _failure_notes(outcomes: Sequence[Outcome]) -> tuple[Note, ...]:
    return tuple(
        Note("upstream_failed", {"server": f.server, "reason": f.reason, "message": f.message})
        for f in merge.failures(outcomes)
    )
