"""What the steps of a call take in the worker, as the prototype (:mod:`bench.floor`) measures them."""

from __future__ import annotations

from typing import Final

import msgspec

STEPS_VARIABLE: Final = "MCP_BENCH_STEPS"
"""Environment variable: a file that is written."""

STEPS_SUFFIX: Final = "-steps.jsonl"
"""Of its name."""


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a call of one kind takes in Python, at best."""

    bytes: int
    """Size of its body."""
    has_response: bool
    """Whether its response is read on the same stream."""
    reading: float
    """The message is checked and read."""
    deciding: float
    """What becomes of it."""
    answering: float
    """The rest until it is serialized."""
    relaying: float
    """The response is read, and written again."""

    def parts(self) -> dict[str, float]:
        """By name."""
        return {
            "reading the message": self.reading,
            "deciding": self.deciding,
            "answering": self.answering,
            "relaying the response": self.relaying,
        }
