"""Which protocol version is spoken."""

from __future__ import annotations

import pytest

from mcp_extproc.mcp import versions


@pytest.mark.parametrize(
    ("requested", "answer"),
    [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("", "2025-11-25"),
        ("2025-06-18 ", "2025-11-25"),
    ],
)
def test_negotiation(requested: str, answer: str) -> None:
    """The client's version where we speak it, else our newest."""
    assert versions.negotiate(requested) == answer


def test_versions_are_listed_newest_first() -> None:
    assert list(versions.SUPPORTED) == sorted(versions.SUPPORTED, reverse=True)
    assert versions.MODERN not in versions.SUPPORTED


@pytest.mark.parametrize(("version", "defined"), [("2025-03-26", False), ("2025-06-18", True), ("2025-11-25", True)])
def test_the_version_header_came_with_the_second_version(version: str, defined: bool) -> None:
    assert versions.defines_version_header(version) is defined
