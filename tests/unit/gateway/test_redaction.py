"""Configured secrets in what servers write."""

from __future__ import annotations

import base64

import pytest

from mcp_extproc.gateway.redaction import Redactor

BASIC = base64.b64encode(b"alice:open sesame").decode()


@pytest.mark.parametrize(
    ("value", "path", "text", "shown"),
    [
        ("Bearer sk-12345678", "/mcp", "bad: Bearer sk-12345678", "bad: [redacted]"),
        ("Bearer sk-12345678", "/mcp", "Bearer token sk-12345678.", "Bearer token [redacted]."),
        ("Bearer sk-12345678", "/mcp", "key=sk-12345678sk-12345678", "key=[redacted][redacted]"),
        (f"Basic {BASIC}", "/mcp", f"no {BASIC}, alice:open sesame or open sesame", "no [redacted], [redacted] or [redacted]"),
        ("v", "/p?key=s3cret%2Fkey&x=1", "Cannot POST /p?key=s3cret%2Fkey&x=1", "Cannot POST /p?[redacted]"),
        ("v", "/p?key=s3cret%2Fkey&x=1", "unknown key s3cret/key", "unknown key [redacted]"),
        ("v", "/mcp/0123456789abcdef/x", "Cannot POST /mcp/0123456789abcdef/x", "Cannot POST /mcp/[redacted]/x"),
        # Short ones are no part of other words, and very short ones are no secrets.
        ("prod", "/mcp", "products of prod", "products of [redacted]"),
        ("v", "/mcp?a=b", "v: a=b is no value of v", "v: a=b is no value of v"),
        ("a.c+(", "/mcp", "abcc( a.c+(", "abcc( [redacted]"),
        # Words are no part of names, either.
        ("memory", "/mcp", "@x/s-memory/memory.js, memory-x: 'memory'", "@x/s-memory/memory.js, memory-x: '[redacted]'"),
        ("memory", "/mcp", "k=memory, db://me:memory@host. memory", "k=[redacted], db://me:[redacted]@host. [redacted]"),
        ("m3mory", "/mcp", "at /m3mory/x-m3mory", "at /[redacted]/x-[redacted]"),
        ("sesamesesame", "/mcp", "xsesamesesame-y", "x[redacted]-y"),
        ("say open sesame twice", "/mcp", "open the sesame: say open sesame twice", "open the sesame: [redacted]"),
        ("Key id=k3y-1234 sig=zzzz9999", "/mcp", "bad id=k3y-1234", "bad [redacted]"),
    ],
)  # fmt: skip
def test_what_is_shown(value: str, path: str, text: str, shown: str) -> None:
    redact = Redactor([value], path)
    assert redact(text, 1000) == shown
    assert value not in repr(redact) or value == "v"


@pytest.mark.parametrize("length", range(30))
def test_no_piece_of_a_secret_is_left_at_the_end(length: int) -> None:
    redact = Redactor(["abcdefghijklmnop"], "/mcp")
    for count in (1, 2):
        shown = redact("x" * 10 + "abcdefghijklmnop" * count + "y" * 100, length)
        assert "abc" not in shown
        assert shown.startswith("x" * min(length, 10))
        assert len(shown) <= length + len("[redacted]")


def test_no_more_is_looked_at_than_is_shown() -> None:
    class Long(str):
        def __getitem__(self, key: object) -> str:
            assert isinstance(key, slice)
            assert key.stop <= 200
            return super().__getitem__(key)

    assert Redactor(["Bearer 12345678"], "/mcp")(Long("x" * 10_000_000), 200) == "x" * 200


def test_nothing_is_configured() -> None:
    assert Redactor([], "/mcp")("abc", 2) == "ab"
