"""What every decision of a worker may use."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcp_extproc.config import Limits
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.merged_lists import MergedLists
from mcp_extproc.gateway.plans import Plans
from mcp_extproc.gateway.relay.identifiers import Identifiers
from mcp_extproc.gateway.tokens import Tokens
from mcp_extproc.mcp.sessions import Sealer


@dataclass(frozen=True, slots=True)
class Services:
    """The same for all requests of a worker. Decisions read the memory; what they change in it, they return as effects."""

    limits: Limits
    session_seconds: float
    """How long a session lives."""
    sealer: Sealer
    identifiers: Identifiers
    memory: SessionMemory
    learns_names: bool = False
    """Whether it is of use to know which names servers list at all."""
    reads_all_answers: bool = False
    """Whether each answer is read, to see errors in it."""
    plans: Plans = field(default_factory=Plans)
    lists: MergedLists = field(default_factory=MergedLists)
    tokens: Tokens = field(default_factory=Tokens)
