"""What one release seals, another opens: in both directions, and whatever fields were added."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from mcp_extproc.gateway.relay.identifiers import ClientView, Cursor, Identifiers, Owned, Position, session_checksum
from mcp_extproc.mcp import sealing, sessions
from mcp_extproc.mcp.sealing import NotSealed, TextSealer
from mcp_extproc.mcp.sessions import BadToken, Sealer, Session, UpstreamSession
from tests.releases import sealed
from tests.releases.sealed import ALPHA, ANONYMOUS, PAYLOADS, SECRET
from tests.support.processes import ROOT

RELEASES = pytest.mark.parametrize("release", sealed.releases())
NOW = sealed.FAR - 1.0
VIEW = ClientView("a session", "2025-11-25", frozenset())


def newer(payload: type[Any]) -> type[Any]:
    """A later release's payload: with one more field, at the end."""
    return msgspec.defstruct(
        payload.__name__, [("added", str | None, None)], bases=(payload,), array_like=True, frozen=True
    )


def within(value: Any, expected: Any) -> bool:
    """Whether a payload has all that is expected of it; it may have more."""
    match expected:
        case dict():
            return all(name in value and within(value[name], member) for name, member in expected.items())
        case list():
            return len(value) == len(expected) and all(map(within, value, expected))
        case _:
            return bool(value == expected)


# -- Released values --------------------------------------------------------------------------------------------------


def test_every_release_has_a_file() -> None:
    """From 0.2.0 on: ``python -m tests.releases.sealed VERSION``."""
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {"0.2.0", *(version for version in released if not version.startswith("0.1."))} <= set(sealed.releases())


@pytest.mark.parametrize("rotated", [False, True], ids=["current", "previous"])
@RELEASES
def test_sessions_of_a_release_open(release: str, rotated: bool) -> None:
    was = sealed.read(release)
    sealer = Sealer("another secret", [was["secret"]]) if rotated else Sealer(was["secret"])
    for session in was["sessions"]:
        said = session["is"]
        opened = sealer.open(session["sealed"], audience=said["audience"], principal=said["principal"], now=NOW)
        # Sealed texts are bound to the short name.
        assert opened.id == session["id"]
        assert within(sealed.plain(opened.session), said)


@pytest.mark.parametrize("rotated", [False, True], ids=["current", "previous"])
@RELEASES
def test_identifiers_of_a_release_open(release: str, rotated: bool) -> None:
    was = sealed.read(release)
    texts = TextSealer("another secret", [was["secret"]]) if rotated else TextSealer(was["secret"])
    identifiers, session = Identifiers(texts), was["sessions"][0]
    for purpose in ("request", "progress"):
        owned = identifiers.owner(purpose, session["id"], json.dumps(was[purpose]["sealed"]).encode())
        assert within(sealed.plain(owned), was[purpose]["is"])
        assert owned is not None
        # It is compared with that of the session in the token.
        upstream = session["is"]["upstreams"][owned.server]
        assert owned.session == session_checksum(UpstreamSession("", upstream["id"], frozenset()))
    for name in ("event_of_get", "event_of_call"):
        position = identifiers.position(session["id"], was[name]["sealed"])
        assert within(sealed.plain(position), was[name]["is"])


@RELEASES
def test_a_release_reads_what_is_sealed_now(release: str) -> None:
    """Its fields come first, in its order and of its types; what was added has a default."""
    for payload in PAYLOADS:
        known = sealed.read(release)["layouts"].get(payload.__name__, [])
        fields = sealed.layout(payload)
        assert fields[: len(known)] == known
        added = len(fields) - len(known)
        assert not known or added <= len(payload.__struct_defaults__), f"{payload.__name__}: a default is missing"


def test_the_next_release_gets_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "FOLDER", tmp_path)
    assert sealed.main("9.9.9") == 0
    assert sealed.releases() == ["9.9.9"]
    test_sessions_of_a_release_open("9.9.9", rotated=False)
    test_identifiers_of_a_release_open("9.9.9", rotated=False)
    test_a_release_reads_what_is_sealed_now("9.9.9")


def test_a_file_that_is_there_stays(capsys: pytest.CaptureFixture[str]) -> None:
    before = sealed.read("0.2.0")
    assert sealed.main("0.2.0") == 1
    assert "does not change" in capsys.readouterr().out
    assert sealed.read("0.2.0") == before


# -- Added fields -----------------------------------------------------------------------------------------------------

EXAMPLES: dict[type[Any], tuple[Any, ...]] = {
    Session: ("/mcp", "somebody", "2025-11-25", 1, "agent/1", frozenset({"roots"}), {"alpha": ALPHA}, 7),
    UpstreamSession: ("2025-11-25", "id", frozenset({"tools"})),
    Owned: ("alpha", 1, b"1"),
    Position: ("tools/call", (Cursor("alpha", 1, "e"),)),
    Cursor: ("alpha", 1, "e"),
}


def test_all_payloads_have_an_example() -> None:
    assert set(EXAMPLES) == set(PAYLOADS)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_older_readers_pass_over_added_fields(payload: type[Any]) -> None:
    later = newer(payload)(*EXAMPLES[payload], added="unheard of")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(later), type=payload) == payload(*EXAMPLES[payload])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_newer_readers_do_without_them(payload: type[Any]) -> None:
    earlier, later = msgspec.msgpack.encode(payload(*EXAMPLES[payload])), newer(payload)
    assert msgspec.msgpack.decode(earlier, type=later) == later(*EXAMPLES[payload], added=None)


def test_a_newer_token_opens() -> None:
    """Added fields, also in the sessions with servers."""
    values = {**sealed.plain(ANONYMOUS), "client_flags": ANONYMOUS.client_flags}
    upstream = newer(UpstreamSession)(ALPHA.version, ALPHA.id, ALPHA.capabilities, added="x")
    token, _ = Sealer(SECRET).seal(newer(Session)(**{**values, "upstreams": {"alpha": upstream}}, added="y"))
    assert Sealer(SECRET).open(token, audience="/mcp", principal="", now=NOW).session == ANONYMOUS


def test_newer_identifiers_open() -> None:
    texts = TextSealer(SECRET)
    identifiers = Identifiers(texts)
    owned = msgspec.msgpack.encode(newer(Owned)("alpha", 1, b"1", added="x"))
    id = texts.seal("request", VIEW.key, owned)
    assert identifiers.owner("request", VIEW.key, json.dumps(id).encode()) == Owned("alpha", 1, b"1")
    cursor = newer(Cursor)("alpha", 1, "e", added="x")
    position = msgspec.msgpack.encode(newer(Position)("", (cursor,), added="x"))
    event_id = texts.seal("event", VIEW.key, position)
    assert identifiers.position(VIEW.key, event_id) == Position("", (Cursor("alpha", 1, "e"),))


# -- Other versions ---------------------------------------------------------------------------------------------------


def test_a_token_of_another_version_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed under the same secret, as a later release might; so it is no matter of a byte that was changed on the way."""
    with monkeypatch.context() as later:
        later.setattr(sessions, "_VERSION", b"\x02")
        token, _ = Sealer(SECRET).seal(ANONYMOUS)
    with pytest.raises(BadToken, match="of another version"):
        Sealer(SECRET).open(token, audience="/mcp", principal="", now=NOW)


def test_a_text_of_another_version_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(sealing, "_VERSION", b"\x02")
        text = TextSealer(SECRET).seal("event", VIEW.key, msgspec.msgpack.encode(Position("", ())))
        id = TextSealer(SECRET).seal("request", VIEW.key, msgspec.msgpack.encode(Owned("alpha", 1, b"1")))
    with pytest.raises(NotSealed, match="of another version"):
        TextSealer(SECRET).open("event", VIEW.key, text)
    identifiers = Identifiers(TextSealer(SECRET))
    assert identifiers.position(VIEW.key, text) is None
    assert identifiers.owner("request", VIEW.key, json.dumps(id).encode()) is None


def test_the_version_of_a_text_is_sealed_with_it() -> None:
    """It can't be exchanged for another that is known, too."""
    blob = sealing.from_base64(TextSealer(SECRET).seal("event", VIEW.key, b"x"), 100)
    key = TextSealer(SECRET)._keys[0]
    assert key.decrypt(blob[1:], [blob[:1], b"event", VIEW.key.encode()]) == b"x"
    with pytest.raises(InvalidTag):
        key.decrypt(blob[1:], [b"\x02", b"event", VIEW.key.encode()])
