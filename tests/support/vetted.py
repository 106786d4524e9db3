"""Calls that wait for consent, made as a worker makes them."""

from __future__ import annotations

import time

from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.held import HeldBytes
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.handover import Handover
from mcp_extproc.upstreams.unread import Unread
from mcp_extproc.upstreams.vetted_calls import VettedCalls


def vetted_calls(
    gateway: Gateway,
    batches: BatchClient | None = None,
    handover: Handover | None = None,
    held: HeldBytes | None = None,
) -> VettedCalls:
    """Those of one worker.

    Args:
        gateway: whose calls.
        batches: where they run; by default nowhere.
        handover: of the worker; by default, to and from nobody.
        held: what it may hold.
    """
    limits = gateway.config.limits
    return VettedCalls(
        batches or BatchClient(None, limits),
        gateway.memory,
        held or HeldBytes(limits.held_bytes),
        Unread(limits.unread_bytes, limits.stream_bytes, 60.0, time.monotonic),
        limits.response_bytes,
        handover or Handover(None, gateway.identifiers),
    )
