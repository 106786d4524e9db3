"""What an exchange adds to the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from mcp_extproc.mcp.methods import opens_session
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry.attributes import OTHER, known_method, of_operation
from mcp_extproc.telemetry.exchange import Exchange, Peer, Verdict
from mcp_extproc.telemetry.instruments import (
    CLIENT_DURATION,
    DENIALS,
    ERRORS,
    REQUESTS,
    SERVER_DURATION,
    SESSION_DURATION,
    SESSIONS_OPENED,
    Instrument,
)
from mcp_extproc.telemetry.spans import of_peer

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the instrument's order."""


class Recording(NamedTuple):
    """One value."""

    instrument: Instrument
    labels: Labels
    value: float


_VALUES: Final[Mapping[Instrument, Callable[[Exchange], float]]] = {
    SERVER_DURATION: lambda exchange: exchange.duration / 1e9,
    CLIENT_DURATION: lambda exchange: _length(exchange.upstream) / 1e9,
    SESSION_DURATION: lambda exchange: exchange.session_seconds or 0.0,
}
"""What an exchange adds to a metric; of others it is 1."""


def _length(times: tuple[int, int] | None) -> int:
    return 0 if times is None else times[1] - times[0]


def _one_more(_: Exchange) -> float:
    """What it adds to a counter."""
    return 1


def recordings_of(exchange: Exchange) -> Iterator[Recording]:
    """All values of one exchange."""
    for instrument, labels in _series_of(exchange):
        yield Recording(instrument, labels, _VALUES.get(instrument, _one_more)(exchange))


def series_key(exchange: Exchange) -> tuple[object, ...]:
    """What labels are made of, and what decides which values there are: exchanges with the same one add to the same series. To
    find out which those are takes ten times as long. Names that strangers make up are not in it."""
    outcome = None
    if exchange.reason is not None or exchange.code is not None or not 200 <= exchange.status < 400:
        outcome = (exchange.error_type, exchange.error_code, exchange.verdict, exchange.rule)
    listed, client = exchange.listed, exchange.client
    return (
        None if exchange.method is None else known_method(exchange.method),
        exchange.tool if listed else exchange.tool is not None,
        exchange.prompt if listed else exchange.prompt is not None,
        exchange.server,
        exchange.endpoint,
        exchange.protocol_version,
        exchange.http_version,
        None if client is None else client.port is None,
        None if exchange.upstream is None else exchange.upstream_peer or (),
        exchange.session_seconds is None,
        exchange.is_request,
        outcome,
    )


def _series_of(exchange: Exchange) -> Iterator[tuple[Instrument, Labels]]:
    if exchange.session_seconds is None and not exchange.is_request and exchange.verdict is not Verdict.DENY:
        return
    found = _labels(exchange)
    here = found | _of_peer(names.CLIENT, exchange.client)
    if exchange.session_seconds is not None:
        yield _one(SESSION_DURATION, here)
    if exchange.verdict is Verdict.DENY:
        yield _one(DENIALS, here | {names.RULE: exchange.rule or OTHER})
    if not exchange.is_request:
        return
    yield _one(SERVER_DURATION, here)
    yield _one(REQUESTS, here)
    if names.ERROR_TYPE in found:
        yield _one(ERRORS, here)
    elif exchange.method is not None and opens_session(exchange.method):
        yield _one(SESSIONS_OPENED, here)
    if exchange.upstream is not None and exchange.server is not None:
        there = found | _of_peer(names.SERVER, exchange.upstream_peer)
        there.pop(names.PROTOCOL_VERSION, None)  # how Envoy speaks to a server is not in the record
        yield _one(CLIENT_DURATION, there)


def _labels(exchange: Exchange) -> dict[str, str]:
    """Attributes as labels: those that strangers make up are :data:`OTHER`, so that they take no room from real ones."""
    found = {name: str(value) for name, value in of_operation(exchange).items()}
    if exchange.method is not None:
        found[names.METHOD] = known_method(exchange.method)
    if not exchange.listed:
        found |= {name: OTHER for name in _NAMED if name in found}
    return found


_NAMED: Final = (names.TOOL, names.PROMPT)


def _of_peer(keys: tuple[str, str], peer: Peer | None) -> dict[str, str]:
    return {name: str(value) for name, value in of_peer(keys, peer).items()}


def labels_of(instrument: Instrument, found: Mapping[str, str]) -> Labels:
    """Those of what is known that the instrument's series have."""
    return tuple((name, found[name]) for name in instrument.labels if name in found)


def _one(instrument: Instrument, found: Mapping[str, str]) -> tuple[Instrument, Labels]:
    return instrument, labels_of(instrument, found)
