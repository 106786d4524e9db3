"""Identifiers that clients bring back, and ids of clients' requests."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.relay.identifiers import (
    Cursor,
    Identifiers,
    Owned,
    Position,
    id_for_client,
    id_for_server,
    session_checksum,
)
from mcp_extproc.mcp.sealing import MAX_SEALED_CHARS, TextSealer
from tests.unit.gateway.relay.support import SECRET, Rig, upstream

cursors = st.builds(Cursor, st.text(max_size=20), st.integers(0, 2**32 - 1), st.text(max_size=40))
positions = st.builds(Position, st.sampled_from(["", "tools/call"]), st.lists(cursors, max_size=3).map(tuple))


@given(positions)
def test_positions_come_back(position: Position) -> None:
    rig = Rig()
    sealed = rig.identifiers.event_id(rig.view, position)
    assert sealed.isascii()
    assert sealed.isprintable()
    assert rig.identifiers.position("s1", sealed) == position
    assert rig.identifiers.position("s2", sealed) is None
    assert Identifiers(TextSealer("another " + SECRET)).position("s1", sealed) is None


@given(positions, st.integers(0), st.integers(0, 63))
def test_a_changed_character_is_noticed(position: Position, where: int, what: int) -> None:
    rig = Rig()
    sealed = rig.identifiers.event_id(rig.view, position)
    where %= len(sealed)
    letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[what]
    changed = sealed[:where] + letter + sealed[where + 1 :]
    assert rig.identifiers.position("s1", changed) == (position if changed == sealed else None)


@given(st.lists(st.integers(0, 1024), min_size=1, max_size=70), st.sampled_from("é1🦑"))
def test_a_position_that_is_too_long_for_a_header_keeps_what_has_moved_last(sizes: list[int], letter: str) -> None:
    rig = Rig()
    position = Position("", tuple(Cursor(f"server-{n}", n, letter * size) for n, size in enumerate(sizes)))
    sealed = rig.identifiers.event_id(rig.view, position)
    found = rig.identifiers.position("s1", sealed)
    assert found is not None
    assert len(sealed) <= MAX_SEALED_CHARS
    assert found.cursors[-1] == position.cursors[-1]
    left_out = [cursor for cursor in position.cursors if cursor not in found.cursors]
    assert [cursor for cursor in position.cursors if cursor not in left_out] == [*found.cursors]
    for cursor in left_out:
        fuller = Position("", tuple(other for other in position.cursors if other == cursor or other in found.cursors))
        assert len(rig.identifiers._sealer.seal("event", "s1", msgspec.msgpack.encode(fuller))) > MAX_SEALED_CHARS - 8


@given(st.text(max_size=100))
def test_garbage_is_none_of_ours(text: str) -> None:
    rig = Rig()
    assert rig.identifiers.position("s1", text) is None
    assert rig.identifiers.owner("request", "s1", json.dumps(text).encode()) is None


@pytest.mark.parametrize("raw", [b"1", b"null", b"{}", b'"', b"", b'"\\ud800"'])
def test_ids_that_are_no_sealed_text(raw: bytes) -> None:
    assert Rig().identifiers.owner("request", "s1", raw) is None


def test_purposes_are_kept_apart() -> None:
    """An event id is no request's id, even if its bytes could be read as one."""
    rig = Rig()
    own = rig.identifiers.own("request", rig.view, "b", upstream(), b"1")
    assert rig.identifiers.owner("request", "s1", own) == Owned("b", session_checksum(upstream()), b"1")
    assert rig.identifiers.owner("progress", "s1", own) is None
    assert rig.identifiers.position("s1", json.loads(own)) is None


def test_sessions_with_a_server_are_kept_apart() -> None:
    rig = Rig()
    made = {rig.identifiers.own("request", rig.view, "b", upstream(id), b"1") for id in ("u1", "u2", None)}
    assert len(made) == 3
    assert session_checksum(upstream(None)) == session_checksum(upstream(""))


def test_a_position_of_many_servers_can_be_read_again() -> None:
    rig = Rig()
    position = Position("", tuple(Cursor(f"server-{n}", n, "e" * 36) for n in range(50)))
    sealed = rig.identifiers.event_id(rig.view, position)
    assert len(sealed) < MAX_SEALED_CHARS
    assert rig.identifiers.position("s1", sealed) == position


ids = st.one_of(
    st.integers().map(lambda n: str(n).encode()),
    st.text(max_size=10).map(lambda text: json.dumps(text).encode()),
    st.integers().map(lambda n: json.dumps(str(n)).encode()),
    st.sampled_from([b'" 5"', b'"+5"', b'"-0"', '"\u0665"'.encode(), b'"5.0"', b'"1e3"']),
)


@given(ids, ids)
def test_ids_for_servers(one: bytes, other: bytes) -> None:
    """They come back, and no string among them can be taken for a number."""
    for id in (one, other):
        theirs = id_for_server(id)
        assert json.loads(id_for_client(theirs)) == json.loads(id)
        assert type(json.loads(id_for_client(theirs))) is type(json.loads(id))
        if id.startswith(b'"'):
            with pytest.raises(ValueError, match="invalid literal"):
                int(json.loads(theirs))
    assert (id_for_server(one) == id_for_server(other)) == (one == other)
