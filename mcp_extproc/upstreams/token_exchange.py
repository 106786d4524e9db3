"""Gets the token that a server gets for a caller's own one, at the token endpoint, through Envoy's private listener.

Source: RFC 8693 section 2, RFC 6749 sections 2.3.1 and 5.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from yarl import URL

from mcp_extproc.body import read_at_most
from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config.credentials import AUTHORIZATION, TokenExchange
from mcp_extproc.contract import FAILURE_HEADER, SERVER_HEADER, TOKEN_ENDPOINT
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.gateway.request import Headers, Subject
from mcp_extproc.gateway.tokens import Granted, Tokens
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.observer import UNOBSERVED, Exchanged, Observer
from mcp_extproc.telemetry.printable import printable
from mcp_extproc.upstreams.observed import Failure, timed
from mcp_extproc.upstreams.private_listener import BROKEN

_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type

SECONDS: Final = 10.0
"""For one exchange, whoever waits for it."""

_UNSAID_SECONDS = 60.0
"""How long a token is taken to be good whose lifetime is not said (RFC 6749 section 5.1)."""

_MOST_SECONDS = 3600.0
"""How long a token is kept at most, whatever is said."""

_FAILED_SECONDS = 1.0
"""How long nobody asks again for a token that could not be had."""

_MAX_FAILED = 4096

_MARGIN_SECONDS = 30.0
"""Before its end a token is replaced, or a tenth of its lifetime before."""

_MAX_BYTES = 64 * 1024
"""Of an answer."""

_MAX_CHARS = 512
"""Of why there is no token, the token endpoint's words included."""

_TOKEN = re.compile(r"[!-~]{1,16384}")


class NotExchanged(Failure):
    """There is no token. ``str()`` is a clause about the server that says why, without tokens and secrets."""

    def __init__(self, why: str, error_type: str) -> None:
        super().__init__(
            "was not asked: the token_endpoint of credentials.token_exchange gave no token for the caller's, it " + why
        )
        self.why = why
        """What follows the name of the token endpoint."""
        self._error_type = error_type

    @property
    def error_type(self) -> str:
        """See :class:`Failure`."""
        return self._error_type


class Exchanges:
    """Gets tokens, each once for all who wait for the same one.

    Args:
        tokens: where they are kept.
        clock: Unix time in seconds.
        observer: is told each time that one is got.
    """

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time, observer: Observer = UNOBSERVED) -> None:
        self._tokens = tokens
        self._observer = observer
        self._clock = clock
        self._running: dict[tuple[str, str], asyncio.Task[Granted]] = {}
        self._failed: Bounded[tuple[str, str], tuple[float, NotExchanged]] = Bounded(_MAX_FAILED, 4 * MIB)
        """Until when there is no token, and why."""
        self._tasks = Tasks(log.logger("upstreams"))

    async def token(
        self,
        http: aiohttp.ClientSession,
        base: str,
        entry: CatalogEntry,
        subject: Subject,
        span: SpanContext | None = None,
    ) -> Granted:
        """The token for a server, from the store or anew. Who goes away does not fail the others.

        Args:
            http: leads to Envoy's private listener.
            base: start of URLs there.
            entry: the server.
            subject: whose it is.
            span: for whose sake it is asked for.

        Raises:
            NotExchanged: it can't be had.
        """
        current = self._tokens.current(subject, entry.name, self._clock())
        if current is not None:
            return current
        key = (subject.key, entry.name)
        failed = self._failed.get(key)
        if failed is not None and self._clock() < failed[0]:
            raise NotExchanged(failed[1].why, failed[1].error_type)
        task = self._running.get(key)
        if task is None:
            work = self._get(http, base, entry, subject, span)
            task = self._tasks.start("exchange_token", work, server=entry.name, expected=(NotExchanged,))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)

    def refused(self, subject: Subject | None, server: str) -> None:
        """A server does not take a token. ``None`` where nobody knows whose."""
        self._tokens.refused(subject, server, self._clock())

    async def close(self) -> None:
        """Give up what runs."""
        await self._tasks.close()

    async def _get(
        self,
        http: aiohttp.ClientSession,
        base: str,
        entry: CatalogEntry,
        subject: Subject,
        span: SpanContext | None,
    ) -> Granted:
        try:
            with timed(partial(self._tell, entry, span)):
                granted = await self._asked(http, base, entry, subject)
        except NotExchanged as error:
            # Each call that fails would ask again.
            failed = self._clock() + _FAILED_SECONDS, NotExchanged(error.why, error.error_type)
            self._failed.keep((subject.key, entry.name), failed, 1024 + 2 * len(error.why))
            raise
        self._tokens.keep(subject, entry.name, granted)
        return granted

    def _tell(self, entry: CatalogEntry, span: SpanContext | None, start: int, end: int, error: str | None) -> None:
        if not self._observer.is_on:
            return
        assert entry.exchanging is not None
        parts = urlsplit(entry.exchanging.token_endpoint)
        self._observer.exchanged(Exchanged(entry.name, (parts.hostname or "", parts.port), start, end, error, span))

    async def _asked(self, http: aiohttp.ClientSession, base: str, entry: CatalogEntry, subject: Subject) -> Granted:
        configured = entry.exchanging
        assert configured is not None
        secret = configured.secret
        if secret is None:
            raise NotExchanged("was not asked: there is no client_secret_file", "configuration")
        parts = urlsplit(configured.token_endpoint)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = dict(_headers(configured, secret, entry.name))
        body = urlencode([*_form(configured, secret, subject)]).encode()
        try:
            async with asyncio.timeout(SECONDS):
                async with http.post(
                    URL(base + target, encoded=True), data=body, headers=headers, allow_redirects=False
                ) as response:
                    return self._granted(response, await _body_of(response))
        except TimeoutError:
            raise NotExchanged(f"did not answer within {SECONDS:g} s", "timeout") from None
        except BROKEN as error:
            raise NotExchanged(f"could not be asked ({type(error).__name__})", "connect") from None
        except NotExchanged as error:
            # It may repeat what it got; in a text that was cut before, a part of that would not be found.
            said = Redactor((subject.token,), "")(error.why, _MAX_BYTES)
            raise NotExchanged(printable(entry.redact(said, _MAX_CHARS)), error.error_type) from None

    def _granted(self, response: aiohttp.ClientResponse, body: bytes) -> Granted:
        failure = response.headers.get(FAILURE_HEADER)
        if failure is not None:
            raise NotExchanged(f"is unreachable ({failure[:100]})", "connect")
        answer = _object_in(body)
        if response.status != 200:
            raise NotExchanged(f"answered HTTP {response.status}{_said(answer)}", str(response.status))
        token, kind = answer.get("access_token"), answer.get("token_type")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise NotExchanged("answered without an access_token that can be sent", "protocol")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise NotExchanged("answered with a token whose token_type is not Bearer", "protocol")
        now, lifetime = self._clock(), _lifetime(answer.get("expires_in"))
        until = now + lifetime - min(_MARGIN_SECONDS, lifetime / 10)
        return Granted(((AUTHORIZATION, f"Bearer {token}"),), now, until)


def _headers(configured: TokenExchange, secret: str, server: str) -> Iterator[tuple[str, str]]:
    yield SERVER_HEADER, server + TOKEN_ENDPOINT
    yield "content-type", "application/x-www-form-urlencoded"
    yield "accept", "application/json"
    if configured.basic:
        # Percent-encoded, as RFC 6749 section 2.3.1 has it; a space as what every reader takes for one.
        words = (configured.client_id, secret)
        pair = ":".join(quote(word, safe="") for word in words)
        yield AUTHORIZATION, f"Basic {base64.b64encode(pair.encode()).decode()}"


def _form(configured: TokenExchange, secret: str, subject: Subject) -> Headers:
    form = (
        ("grant_type", _GRANT),
        ("subject_token", subject.token),
        ("subject_token_type", _ACCESS_TOKEN),
        ("requested_token_type", _ACCESS_TOKEN),
        ("audience", configured.audience or ""),
        ("resource", configured.resource or ""),
        ("scope", " ".join(configured.scopes)),
        *(
            ()
            if configured.basic
            else (
                ("client_id", configured.client_id),
                ("client_secret", secret),
            )
        ),
    )
    return tuple((name, value) for name, value in form if value)


async def _body_of(response: aiohttp.ClientResponse) -> bytes:
    body = await read_at_most(response.content.iter_any(), _MAX_BYTES)
    if body is None:
        raise NotExchanged(f"answered with more than {_MAX_BYTES} bytes", "too_large")
    return body


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _said(answer: dict[str, Any]) -> str:
    """RFC 6749 section 5.2."""
    words = (answer.get("error"), answer.get("error_description"))
    said = ": ".join(word for word in words if isinstance(word, str) and word)
    return f", {said}" if said else ""


def _lifetime(said: object) -> float:
    """Seconds, bounded. Some write them as text."""
    if isinstance(said, str) and said.isascii() and said.isdigit():
        said = float(said)
    if isinstance(said, bool) or not isinstance(said, int | float) or said < 0:
        return _UNSAID_SECONDS
    return float(min(said, _MOST_SECONDS))
