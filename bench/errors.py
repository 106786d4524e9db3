"""What ends a run early."""

from __future__ import annotations


class BenchError(Exception):
    """The run can't go on or its figures can't be trusted. The message says what happened, where, and what to look at."""
