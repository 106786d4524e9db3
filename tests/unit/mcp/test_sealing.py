"""Sealed texts and the Base64 that carries them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp.sealing import MAX_SEALED_CHARS, NotSealed, TextSealer, derive_key, from_base64, to_base64
from tests.unit.gateway.relay.support import SECRET

OTHER = "a secret that came before this one"


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_sealed_texts_open_for_their_session_and_purpose_only(blob: bytes, purpose: str, session: str) -> None:
    sealer = TextSealer(SECRET)
    sealed = sealer.seal(purpose, session, blob)
    assert sealer.open(purpose, session, sealed) == blob
    assert sealer.seal(purpose, session, blob) == sealed
    for wrong_purpose, wrong_session in ((purpose + "x", session), (purpose, session + "x"), (session, purpose + "x")):
        with pytest.raises(NotSealed):
            sealer.open(wrong_purpose, wrong_session, sealed)


@given(st.text(max_size=300))
def test_garbage(text: str) -> None:
    with pytest.raises(NotSealed):
        TextSealer(SECRET).open("p", "s", text)


def test_nothing_of_the_text_shows() -> None:
    sealed = TextSealer(SECRET).seal("p", "s", b"github/event-1")
    assert b"github" not in from_base64(sealed, 1000)
    assert sealed[:20] != TextSealer(SECRET).seal("p", "s", b"github/event-2")[:20]


def test_rotation() -> None:
    """Old secrets open, and the new one seals."""
    old, rotated = TextSealer(OTHER), TextSealer(SECRET, [OTHER])
    assert rotated.open("p", "s", old.seal("p", "s", b"x")) == b"x"
    assert rotated.seal("p", "s", b"x") == TextSealer(SECRET).seal("p", "s", b"x")
    with pytest.raises(NotSealed):
        old.open("p", "s", rotated.seal("p", "s", b"x"))


def test_texts_without_measure_are_not_looked_at() -> None:
    sealer = TextSealer(SECRET)
    long = sealer.seal("p", "s", b"x" * MAX_SEALED_CHARS)
    with pytest.raises(NotSealed, match="malformed"):
        sealer.open("p", "s", long)


def test_keys_differ_by_purpose_and_secret() -> None:
    keys = {derive_key(secret, purpose, 32) for secret in (SECRET, OTHER) for purpose in ("a", "b")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}


@given(st.binary(min_size=1, max_size=100))
def test_base64_has_one_spelling(blob: bytes) -> None:
    text = to_base64(blob)
    assert from_base64(text, 1000) == blob
    for other in (text + "=", text + "A", " " + text, text + "\n", text.replace("-", "+").replace("_", "/") + "!"):
        try:
            assert from_base64(other, 1000) != blob
        except ValueError:
            continue


@pytest.mark.parametrize("text", ["", "A", "AB==", "é", "A A", "AB", "+/+/", "A" * 11])
def test_base64_that_is_none(text: str) -> None:
    """Among them ``AB``, whose last bits are not zero: a second spelling of ``AA``."""
    with pytest.raises(ValueError, match="malformed"):
        from_base64(text, 10)
