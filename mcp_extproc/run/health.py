"""``health``: whether workers and a bridge serve, for container and service managers. They ask every few seconds, so little is
imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from mcp_extproc.address import Address
from mcp_extproc.bridge import health as of_bridge
from mcp_extproc.extproc import health as of_worker


def report(workers: Iterable[Address], bridge: Address | None, timeout: float) -> int:
    """Print what each of them says, and return the exit code: 0 if all serve, otherwise 1.

    Args:
        workers: their addresses.
        bridge: its address, if one is to be asked.
        timeout: seconds to wait for each.
    """
    problems = {} if bridge is None else {str(bridge): of_bridge.problem(bridge, timeout)}
    problems |= {str(address): of_worker.problem(address, timeout) for address in workers}
    for address, why in problems.items():
        print(f"{address}: {why or 'serving'}", file=sys.stderr if why else sys.stdout, flush=True)
    return 1 if any(problems.values()) else 0
