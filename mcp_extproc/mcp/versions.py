"""Protocol versions of MCP that the gateway speaks."""

from __future__ import annotations

import enum
from typing import Final


class Era(enum.Enum):
    """How versions open a conversation."""

    HANDSHAKE = "with initialize, which may begin a session (2025-03-26 to 2025-11-25)"
    MODERN = "not at all: each request carries what initialize used to settle (from 2026-07-28 on)"


V_2024_11_05: Final = "2024-11-05"
"""Answered by servers that speak Streamable HTTP with a version from before it, as SDKs let them."""
V_2025_03_26: Final = "2025-03-26"
V_2025_06_18: Final = "2025-06-18"
V_2025_11_25: Final = "2025-11-25"

SUPPORTED: Final = (V_2025_11_25, V_2025_06_18, V_2025_03_26)
"""Newest first."""

OF_SERVERS: Final = (*SUPPORTED, V_2024_11_05)
"""What servers may answer to ``initialize``."""

LATEST: Final = SUPPORTED[0]

MODERN: Final = "2026-07-28"
"""First version without sessions. Not served yet; requests that carry it get -32022, and clients fall back."""

META_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
"""Member of ``params._meta`` that makes a request a 2026-07-28 one (2026-07-28 basic/index, _meta)."""


def negotiate(requested: str) -> str:
    """The version that answers an ``initialize``: the client's where we speak it, else our newest.

    Source: 2025-11-25 basic/lifecycle, Version Negotiation.
    """
    return requested if requested in SUPPORTED else LATEST


def defines_version_header(version: str) -> bool:
    """Whether ``MCP-Protocol-Version`` exists in this version (since 2025-06-18 basic/transports)."""
    return version >= V_2025_06_18
