"""What is read of a request's head."""

from __future__ import annotations

import pytest

from mcp_extproc.contract import EARLY_HIDES, EARLY_SHOWS
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages


def head_of(*fields: tuple[str, str]) -> pb.HttpHeaders:
    headers = pb.HttpHeaders()
    for key, value in fields:
        headers.headers.headers.add(key=key, raw_value=value.encode("latin-1"))
    return headers


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ([(EARLY_HIDES, "https")], "https"),
        ([(EARLY_SHOWS, "https")], "https"),
        ([(EARLY_SHOWS, "http")], "http"),
        ([(EARLY_SHOWS, "https,http")], "http"),
        ([(EARLY_SHOWS, "")], "http"),
        ([(EARLY_SHOWS, 'x" y="')], "http"),
        ([(EARLY_SHOWS, "https"), (EARLY_SHOWS, "http")], "http"),
        ([], "http"),
    ],
)
def test_a_scheme_is_http_or_https(fields: list[tuple[str, str]], scheme: str) -> None:
    """It stands in URLs that clients are told, and in front of policies it comes from a header that others may write."""
    head = messages.read_head(head_of(*fields))
    assert head.scheme == scheme
    assert EARLY_SHOWS not in head.headers
    assert EARLY_SHOWS not in head.repeated
