"""Errors that end a run."""

from __future__ import annotations


class BenchError(Exception):
    """The run can't continue or its figures can't be trusted. The message is the problem, its place, and where to look."""
