"""What the transports of a worker differ in."""

from __future__ import annotations

import os

import pytest

from mcp_extproc.contract import TRANSPORT_VARIABLE

sockets_are_held = pytest.mark.skipif(
    os.environ.get(TRANSPORT_VARIABLE) == "grpcio",
    reason="gRPC's library takes no socket over: calls meet 503 while such a worker is replaced (docs/design.md)",
)
"""For tests of what a supervisor promises that holds its workers' Unix sockets."""
