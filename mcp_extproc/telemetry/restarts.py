"""How often processes died and were started again. A module of its own, as the supervisor reads no more of telemetry."""

from __future__ import annotations

import msgspec


class RestartCounts(msgspec.Struct):
    """Since the gateway runs. The supervisor counts."""

    worker: int = 0
    collector: int = 0
