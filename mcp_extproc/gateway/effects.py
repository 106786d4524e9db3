"""What a decision changes beyond its own request, as values. The exchange applies them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mcp_extproc.gateway.authorization.items import Hints
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.relay.identifiers import Asked
from mcp_extproc.gateway.vetting.question import Verdict


@dataclass(frozen=True, slots=True)
class BeginSession:
    """A client's session begins. Nobody may ever end it, so those with servers are ended once its token has expired."""

    caller: str
    expires: float
    """Unix time in seconds."""
    servers: tuple[SessionRef, ...]
    """All that may get one."""


@dataclass(frozen=True, slots=True)
class EndSession:
    """A client ended its session: from now on its token gets 404 at this worker."""

    caller: str
    servers: tuple[SessionRef, ...]
    """What was set in these is forgotten."""


@dataclass(frozen=True, slots=True)
class EndStreams:
    """The open streams of a caller end."""

    caller: str


@dataclass(frozen=True, slots=True)
class SetLevel:
    """A client set its log level."""

    caller: str
    level: str
    servers: tuple[SessionRef, ...]
    """Those that get it, now and again after they lose the session."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client subscribed to a resource."""

    session: SessionRef
    uri: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client ended a subscription."""

    session: SessionRef
    uri: str


@dataclass(frozen=True, slots=True)
class RememberOwners:
    """It is known which server has which name or URI of a list."""

    caller: str
    kind: str
    """Method of the list."""
    owners: Mapping[str, str]
    until: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class RememberListed:
    """It is known what servers list to a caller, and with which annotations."""

    caller: str
    kind: str
    """Method of the list."""
    listed: Mapping[str, Mapping[str, Hints]]
    """By server, the names."""
    at: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class SpendConsent:
    """The call that a user consented to runs. It runs once."""

    caller: str
    question: bytes


@dataclass(frozen=True, slots=True)
class AnswerQuestion:
    """A user answered a question of ours."""

    asked: Asked
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class WithdrawCall:
    """A client wants no answer to a request any more, about which its user may have been asked."""

    caller: str
    id: bytes
    """JSON text."""


@dataclass(frozen=True, slots=True)
class LearnNames:
    """It is known which names servers list, whoever asked. For records only."""

    kind: str
    """Of what: ``tools``, …"""
    names: Collection[tuple[str, str]]
    """Servers and their own names."""


@dataclass(frozen=True, slots=True)
class NoteExpiry:
    """A client still uses a session that has expired. For records only."""

    session: str
    """Its short name."""
    version: str
    """Of the protocol."""


MemoryEffect = (
    BeginSession | EndSession | SetLevel | Subscribe | Unsubscribe | RememberOwners | RememberListed | SpendConsent
)
"""For the worker's memory."""

VettingEffect = AnswerQuestion | WithdrawCall
"""For the calls that wait for consent."""

RecordEffect = LearnNames | NoteExpiry
"""For records."""

Effects = tuple[MemoryEffect | VettingEffect | EndStreams | RecordEffect, ...]
