"""The gateway's mind: what to do with each request. A plain function of request, token, memory and configuration.

Two steps, as Envoy sends a request in two: :meth:`Gateway.admit` judges the headers, :meth:`Gateway.decide` the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import FAILURE_HEADER, REPLICA_MARK
from mcp_extproc.gateway import admission, headers, merge, refusals, replies
from mcp_extproc.gateway.caller import ClientSession, Context, Inquiry
from mcp_extproc.gateway.catalog import Catalog
from mcp_extproc.gateway.decision import (
    AskLeg,
    CloseLeg,
    Decision,
    Failed,
    FanOut,
    Forward,
    ForwardPlan,
    NeedBody,
    NeedSession,
    NotifyLeg,
    Outcome,
    Reply,
    RequestHead,
    SessionRef,
    Stream,
    id_facts,
)
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.identifiers import Identifiers, Owned, session_checksum
from mcp_extproc.gateway.requests import batches, calls, initialize, lists, streams
from mcp_extproc.mcp import capabilities, envelope, jsontext, methods, versions
from mcp_extproc.mcp.envelope import Notification, Request, Response
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Handling, Method
from mcp_extproc.mcp.names import MAX_NAME_CHARS
from mcp_extproc.mcp.sealing import TextSealer
from mcp_extproc.mcp.sessions import BadToken, OpenedSession, Sealer, UpstreamSession

_UNREACHABLE = ((FAILURE_HEADER, "NoHealthyUpstream"),)
"""In Envoy's words, as on all answers that come from no server."""

_MAX_SESSIONS = 4096
"""Sessions kept between requests. One more, and all are made again as they come."""


class Gateway:
    """Decides about requests.

    Args:
        config: the whole configuration.
        secret: seals session tokens and ids.
        memory: what this worker remembers.
    """

    def __init__(self, config: GatewayConfig, secret: str, memory: SessionMemory) -> None:
        previous = [old.get_secret_value() for old in config.session.previous_secrets]
        self.config = config
        self.catalog = Catalog(config)
        self.memory = memory
        self.identifiers = Identifiers(TextSealer(secret, previous))
        self._sessions: dict[str, ClientSession] = {}
        self._context = Context(config, self.catalog, Sealer(secret, previous), self.identifiers, memory)

    # -- Headers ------------------------------------------------------------------------------------------------------

    def admit(self, head: RequestHead, now: float) -> Decision | NeedBody:
        """Judge a request by its headers."""
        facts: dict[str, Any] = {}
        try:
            admission.check_place(head, self.config)
            match head.method:
                case "GET" | "DELETE" if head.judging:
                    return self._introduce(head, facts, now)
                case "POST":
                    admission.check_post(head, self.config)
                    return NeedBody(self._may_read_response(head, now))
                case "GET":
                    return self._stream(head, facts, now)
                case "DELETE":
                    return self._close(head, facts, now)
            raise refusals.http_method(head.method)
        except McpError as error:
            return replies.reject(error, facts)

    def _may_read_response(self, head: RequestHead, now: float) -> bool:
        session = self._session_of_calls(head, now)
        return session is not None and calls.may_read_response(session)

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
                raise refusals.too_large(self.config.limits.request_bytes)
            if envelope.is_batch(body):
                return self._batch(head, body, facts, now)
            message = envelope.parse(body, self.config.limits.json_depth)
            if isinstance(message, Request) and not head.judging:
                forward = self._like_before(head, message, now)
                if forward is not None:
                    return forward
            _describe(message, facts)
            if head.judging:
                facts.pop("params", None)
                facts |= preview.native_facts(message)
            try:
                return self._decide(head, message, facts, now)
            except McpError as error:
                if head.judging and error.status == 200:
                    # A refusal tells something of what is there: policies come first.
                    return preview.show(head, facts)
                raise error.about(message.id if isinstance(message, Request) else None) from None
        except McpError as error:
            return replies.reject(error, facts)

    def _like_before(self, head: RequestHead, request: Request, now: float) -> Forward | None:
        """The short way for calls like one that was forwarded before; ``None`` where the long one has to be taken."""
        session = self._session_of_calls(head, now)
        if session is None:
            return None
        token = None
        if "_meta" in request.params:
            try:
                admission.check_era(head, request)
                token = calls.progress_token(request)
            except McpError:
                return None
        return calls.like_before(session, head, request, token)

    def _session_of_calls(self, head: RequestHead, now: float) -> ClientSession | None:
        token = head.headers.get("mcp-session-id")
        if token is None:
            return None
        try:
            opened = self._opened(token, now)
        except BadToken:
            return None
        return None if self.memory.has_ended(opened.id) else self._client_session(opened)

    def _decide(self, head: RequestHead, message: envelope.Message, facts: dict[str, Any], now: float) -> Decision:
        if not isinstance(message, Response):
            admission.check_era(head, message)
            if message.method == "initialize":
                if isinstance(message, Notification):
                    raise refusals.initialize_without_id()
                if "mcp-session-id" in head.headers:
                    # A client that thinks it has a session hears if it has none, whatever it asks.
                    self._session(head, facts, now)
                if head.judging:
                    return preview.show(head, facts)
                return initialize.initialize(self._context, message, facts)
        admission.check_version_header(head)
        session = self._session(head, facts, now)
        if head.judging and not (isinstance(message, Request) and _is_for_one_server(message)):
            return preview.show(head, facts)
        match message:
            case Request():
                return self._request(Inquiry(head, message, session, facts, now))
            case Notification():
                return self._notification(message, session, facts)
            case Response():
                return self._response(message, session, facts)

    def _batch(self, head: RequestHead, body: bytes, facts: dict[str, Any], now: float) -> Decision:
        limits = self.config.limits
        bodies = envelope.split_batch(body, limits.json_depth, limits.batch_messages)
        if "mcp-session-id" not in head.headers:
            raise envelope.no_batch()
        admission.check_version_header(head)
        if self._session(head, facts, now).view.version != versions.V_2025_03_26:
            raise envelope.no_batch()
        return batches.split(head, bodies, limits.json_depth, facts)

    def _session(self, head: RequestHead, facts: dict[str, Any], now: float) -> ClientSession:
        token = head.headers.get("mcp-session-id")
        if token is None:
            raise refusals.session_missing()
        try:
            opened = self._opened(token, now)
            if self.memory.has_ended(opened.id):
                raise BadToken("ended")
        except BadToken as error:
            facts["session_error"] = str(error)
            raise refusals.session_unknown() from None
        session = self._client_session(opened)
        facts |= session.facts
        return session

    def _client_session(self, opened: OpenedSession) -> ClientSession:
        session = self._sessions.get(opened.id)
        if session is None or session.opened is not opened:
            session = ClientSession(self._context, opened)
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            self._sessions[opened.id] = session
        return session

    def _opened(self, token: str, now: float) -> OpenedSession:
        return self._context.sealer.open(token, audience=self.config.listen.path, principal="", now=now)

    # -- Requests -------------------------------------------------------------------------------------------------------

    def _request(self, ask: Inquiry) -> Decision:
        method = methods.REQUESTS.get(ask.request.method)
        if method is None:
            raise refusals.unknown_method(ask.request.method)
        match method.handling:
            case Handling.ANSWER:
                return replies.result(ask.request.id, {}, ask.facts)
            case Handling.LIST:
                return lists.merged(ask, method)
            case Handling.BY_NAME:
                return calls.by_name(ask, method)
            case Handling.BY_URI:
                return calls.by_uri(ask, method)
            case Handling.BY_REF:
                return calls.by_ref(ask, method)
            case Handling.TELL_ALL:
                return self._set_level(ask, method)
            case _:
                raise AssertionError(f"{ask.request.method} is handled before a session is looked for")

    def _set_level(self, ask: Inquiry, method: Method) -> FanOut:
        level = ask.request.text("level")
        if level not in methods.LOG_LEVELS:
            raise refusals.invalid_params(f"{method.name} needs params.level, one of {', '.join(methods.LOG_LEVELS)}.")
        session = ask.session
        legs = []
        for name in session.servers_with("logging"):
            self.memory.set_level(session.ref(name), level)
            legs.append(AskLeg(name, session.ref(name), method.name, orjson.dumps({"level": level}), "logging"))
        self.memory.remember_level(session.opened.id, level)

        def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
            if (refused := replies.nobody_answered(outcomes, ask.request.id, ask.facts)) is not None:
                return refused
            facts = {**ask.facts, **replies.unavailable_fact(merge.failures(outcomes))}
            return replies.result(ask.request.id, {}, facts, replies.failure_notes(outcomes))

        return FanOut(tuple(legs), answer, ask.facts)

    # -- Notifications and responses --------------------------------------------------------------------------------------

    def _notification(self, message: Notification, session: ClientSession, facts: dict[str, Any]) -> Decision:
        method = methods.NOTIFICATIONS.get(message.method)
        if method is None or method.handling is Handling.DROP:
            return replies.accepted(facts)
        if method.handling is Handling.BY_PROGRESS:
            token = message.params.get("progressToken")
            owner = None if token is None else self._owner("progress", session, bytes(token))
            if owner is None:
                return replies.accepted(facts)
            return _tell(session, [owner.server], message.rewritten({"progressToken": owner.raw}), facts)
        if method.client_flag is not None and method.client_flag not in session.view.flags:
            return replies.accepted(facts)
        body = _cancelled_at_servers(message, session) if method.name == "notifications/cancelled" else message.body
        return replies.accepted(facts) if body is None else _tell(session, self.catalog.entries, body, facts)

    def _response(self, message: Response, session: ClientSession, facts: dict[str, Any]) -> Decision:
        """A client's answer to a request that some server sent: it goes to that server, and to no other."""
        owner = self._owner("request", session, message.id)
        if owner is None:
            return replies.accepted(facts)
        facts["server"] = owner.server
        return _tell(session, [owner.server], envelope.with_id(message.body, message.members, owner.raw), facts)

    def _owner(self, purpose: str, session: ClientSession, raw: bytes) -> Owned | None:
        """Whose id or token it is; ``None`` also where the server, or its session that asked, is not there any more."""
        owner = self.identifiers.owner(purpose, session.opened.id, raw)
        if owner is None or owner.server not in self.catalog.entries:
            return None
        current = self.memory.current(session.ref(owner.server))
        return owner if current is not None and session_checksum(current) == owner.session else None

    def _introduce(self, head: RequestHead, facts: dict[str, Any], now: float) -> Decision:
        """A GET or a DELETE, to those who judge it."""
        if head.method == "GET":
            admission.check_get(head)
            if "mcp-session-id" not in head.headers:
                raise refusals.stream("Mcp-Session-Id is missing")
        self._session(head, facts, now)
        return preview.show(head, facts)

    # -- Streams, ends and repairs ----------------------------------------------------------------------------------------

    def _stream(self, head: RequestHead, facts: dict[str, Any], now: float) -> Stream:
        admission.check_get(head)
        if "mcp-session-id" not in head.headers:
            raise refusals.stream("Mcp-Session-Id is missing")
        return streams.open_stream(self._session(head, facts, now), head, facts)

    def _close(self, head: RequestHead, facts: dict[str, Any], now: float) -> FanOut:
        session = self._session(head, facts, now)
        legs = tuple(CloseLeg(name, session.ref(name)) for name in self.catalog.entries)

        def answer(outcomes: Sequence[Outcome], _: float) -> Reply:
            return Reply(204, b"", facts=facts, notes=replies.failure_notes(outcomes), ends_session=session.opened.id)

        self.memory.end(session.opened.id)
        return FanOut(legs, answer, facts)

    def repair(self, server: str, head: RequestHead) -> Decision:
        """A forwarded request came back from Envoy, because the server answered as if it did not know its session.

        Envoy retries such a request at its private listener ``mcp_repair``. The server is initialized again, and the request
        goes there once more with the new session; nothing else of it changes, and its body never visits us.

        Where retries are configured, it may also be that no connection could be made. Then the session is looked at first.

        Args:
            server: whose request it is, as Envoy's route says.
            head: with the headers that :class:`Forward` had set.
        """
        facts: dict[str, Any] = {"server": server, "repair": "session"}
        lost = head.headers.get("mcp-session-id")
        configured = self.config.servers.get(server)
        if configured is None:
            # It was removed after a worker that is gone now had sent the request there.
            return Reply(503, b"", _UNREACHABLE, facts)
        doubtful = configured.safe_retries is not None
        if head.headers.get("x-envoy-attempt-count", "1") == "1" or (lost is None and not doubtful):
            # Not a retry: Envoy found no other endpoint of the server to send the request to.
            return Reply(503, b"", _UNREACHABLE, facts)
        if lost is None:
            return Forward(ForwardPlan(server, (), (), facts), b"")
        version = head.headers.get("mcp-protocol-version", versions.V_2025_03_26)
        ref = SessionRef(server, lost, None, version, _declared(head, version))

        def resume(session: UpstreamSession | Failed) -> Decision:
            if isinstance(session, Failed):
                return Reply(503, b"", _UNREACHABLE, facts, replies.failure_notes([session]))
            set_headers, gone = calls.session_headers(session)
            return Forward(ForwardPlan(server, set_headers, gone, facts), b"")

        if configured is not None and configured.sticky_sessions and REPLICA_MARK not in lost:
            # From before sessions were sticky. The replica that is asked might be the one that knows it, and the next one not.
            doubtful = False
        return NeedSession(ref, lost, resume, doubtful)


def _is_for_one_server(request: Request) -> bool:
    method = methods.REQUESTS.get(request.method)
    return method is not None and method.handling in (Handling.BY_NAME, Handling.BY_URI, Handling.BY_REF)


def _tell(session: ClientSession, servers: Iterable[str], body: bytes, facts: Mapping[str, Any]) -> FanOut:
    legs = tuple(NotifyLeg(name, session.ref(name), body) for name in servers)
    return FanOut(legs, lambda outcomes, _: replies.accepted(facts, replies.failure_notes(outcomes)), facts)


def _cancelled_at_servers(message: Notification, session: ClientSession) -> bytes | None:
    """``notifications/cancelled`` with the request's id as the servers got it. Servers ignore ids that they do not know.

    ``None`` where it is about no request.
    """
    id = envelope.read_id(message.params.get("requestId"))
    if id is None:
        return None
    theirs = calls.id_at_servers(session, id)
    return message.body if theirs == id else message.rewritten({"requestId": theirs})


def _declared(head: RequestHead, version: str) -> capabilities.Flags:
    """What the client can be asked for, as the forwarded request says in a header of ours."""
    declared = jsontext.object_of(head.headers.get(headers.CAPABILITIES, "{}").encode())
    return frozenset() if declared is None else capabilities.client_flags(declared, version)


def _describe(message: envelope.Message, facts: dict[str, Any]) -> None:
    if isinstance(message, Request | Response):
        facts |= id_facts(message.id)
    if isinstance(message, Response):
        return
    facts["method"] = message.method
    # A longer name than any that is served is cut here: metadata and logs are no place for megabytes.
    named = {name: text[: MAX_NAME_CHARS + 1] for name in ("name", "uri") if (text := message.text(name)) is not None}
    if named:
        facts["params"] = named
