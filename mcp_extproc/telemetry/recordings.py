"""What an exchange adds to the metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the instrument's order."""


class Recording(NamedTuple):
    """One value."""

    instrument: Instrument
    labels: Labels
    value: float


def recordings_of(exchange: Exchange) -> Iterator[Recording]:
    """All values of one exchange."""
    age = exchange.session_seconds
    if age is None and not exchange.is_request and exchange.verdict is not Verdict.DENY:
        return
    found = _labels(exchange)
    here = found | _transport(exchange.client)
    if age is not None:
        yield _recording(SESSION_DURATION, here, age)
    if exchange.verdict is Verdict.DENY:
        yield _recording(DENIALS, here | {names.RULE: exchange.rule or OTHER}, 1)
    if not exchange.is_request:
        return
    yield _recording(SERVER_DURATION, here, exchange.duration / 1e9)
    yield _recording(REQUESTS, here, 1)
    if names.ERROR_TYPE in found:
        yield _recording(ERRORS, here, 1)
    elif exchange.method is not None and opens_session(exchange.method):
        yield _recording(SESSIONS_OPENED, here, 1)
    if exchange.upstream is not None and exchange.server is not None:
        begin, end = exchange.upstream
        peer = exchange.upstream_peer
        there = found | _transport(peer) | _address(peer)
        there.pop(names.PROTOCOL_VERSION, None)  # how Envoy speaks to a server is not in the record
        yield _recording(CLIENT_DURATION, there, (end - begin) / 1e9)


def _labels(exchange: Exchange) -> dict[str, str]:
    """Attributes as labels: those that strangers make up are :data:`OTHER`, so that they take no room from real ones."""
    found = {name: str(value) for name, value in of_operation(exchange).items()}
    if exchange.method is not None:
        found[names.METHOD] = known_method(exchange.method)
    if not exchange.listed:
        found |= {name: OTHER for name in _NAMED if name in found}
    return found


_NAMED: Final = (names.TOOL, names.PROMPT)


def _transport(peer: Peer | None) -> dict[str, str]:
    if peer is None:
        return {}
    return {names.TRANSPORT: "unix" if peer.port is None else "tcp"}


def _address(peer: Peer | None) -> dict[str, str]:
    if peer is None:
        return {}
    address, port = names.SERVER
    return {address: peer.address} | ({} if peer.port is None else {port: str(peer.port)})


def labels_of(instrument: Instrument, found: Mapping[str, str]) -> Labels:
    """Those of what is known that the instrument's series have."""
    return tuple((name, found[name]) for name in instrument.labels if name in found)


def _recording(instrument: Instrument, found: Mapping[str, str], value: float) -> Recording:
    return Recording(instrument, labels_of(instrument, found), value)
