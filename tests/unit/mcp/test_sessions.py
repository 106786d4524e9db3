"""Tokens open exactly what was sealed, where it was sealed for, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp import sessions as sessions_module
from mcp_extproc.mcp.sessions import (
    IN_EVENTS,
    MAX_TOKEN_CHARS,
    BadToken,
    OpenedSession,
    Sealer,
    Session,
    UpstreamSession,
)

NOW = 1_700_000_000.0
SECRET = "a secret of the operator, long enough"


def session(**changed: object) -> Session:
    values: dict[str, object] = {
        "audience": "/mcp",
        "principal": "",
        "version": "2025-11-25",
        "expires": int(NOW) + 60,
        "client": "agent/1",
        "client_flags": frozenset({"roots"}),
        "upstreams": {"a": UpstreamSession("2025-06-18", "id of a", frozenset({"tools"}))},
        **changed,
    }
    return Session(**values)  # type: ignore[arg-type]


SEALER = Sealer(SECRET)


def opened(
    token: str, sealer: Sealer = SEALER, audience: str = "/mcp", principal: str = "", now: float = NOW
) -> Session:
    return sealer.open(token, audience=audience, principal=principal, now=now).session


def refusal(token: str, sealer: Sealer = SEALER, audience: str = "/mcp", principal: str = "", now: float = NOW) -> str:
    with pytest.raises(BadToken) as caught:
        opened(token, sealer, audience, principal, now)
    return str(caught.value)


texts = st.text(max_size=20)
upstream_sessions = st.builds(
    UpstreamSession, texts, st.none() | st.text(max_size=200), st.frozensets(texts, max_size=4)
)
sessions = st.builds(
    Session,
    audience=texts,
    principal=texts,
    version=texts,
    expires=st.integers(1, 2**62),
    client=texts,
    client_flags=st.frozensets(texts, max_size=4),
    upstreams=st.dictionaries(texts, upstream_sessions, max_size=5),
)


@given(sessions, st.text(max_size=40))
def test_a_session_comes_back_as_it_was(session: Session, secret: str) -> None:
    sealer = Sealer(secret)
    token, name = sealer.seal(session)
    # MCP 2025-11-25 basic/transports, Session Management.
    assert re.fullmatch(r"[\x21-\x7e]+", token)
    found = sealer.open(token, audience=session.audience, principal=session.principal, now=session.expires - 1)
    assert (found.session, found.id) == (session, name)


def test_sessions_that_may_do_the_same_hold_that_once() -> None:
    """A worker remembers thousands. What servers name is not kept where it is unusual."""
    mine, others = (opened(SEALER.seal(session(client=client))[0]) for client in ("a", "b"))
    assert mine.client_flags is others.client_flags
    assert mine.upstreams["a"].capabilities is others.upstreams["a"].capabilities
    for unusual in (frozenset(map(str, range(100))), frozenset({"x" * 2000})):
        one, other = (UpstreamSession("2025-06-18", None, frozenset([*unusual])) for _ in range(2))
        assert one.capabilities == other.capabilities == unusual
        assert one.capabilities is not other.capabilities


def test_the_same_session_never_gives_the_same_token() -> None:
    pairs = [SEALER.seal(session()) for _ in range(20)]
    assert len({token for token, _ in pairs}) == len({name for _, name in pairs}) == 20


@pytest.mark.parametrize("in_events", [True, False])
def test_a_token_says_whether_answers_are_event_streams(*, in_events: bool) -> None:
    """To Envoy, which can't open it. The rest of the nonce is random."""
    pairs = [SEALER.seal(session(), in_events=in_events) for _ in range(200)]
    assert {re.fullmatch(IN_EVENTS, token) is not None for token, _ in pairs} == {in_events}
    assert len({name for _, name in pairs}) == 200
    assert len({token[7] for token, _ in pairs}) > 16
    assert opened(pairs[0][0]) == session()


def test_nothing_inside_can_be_read_from_outside() -> None:
    token, name = SEALER.seal(session())
    blob = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"id of a" not in blob
    assert b"agent" not in blob
    assert name not in token
    assert SECRET not in repr(SEALER)


def test_every_flipped_bit_is_noticed() -> None:
    token = SEALER.seal(session())[0]
    blob = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for at in range(len(blob)):
        for bit in range(8):
            blob[at] ^= 1 << bit
            refusal(base64.urlsafe_b64encode(blob).rstrip(b"=").decode())
            blob[at] ^= 1 << bit


# One session for each length modulo three: the last character of two of them has unused bits.
@pytest.mark.parametrize("client", ["", "1", "12"])
def test_every_flipped_bit_of_the_text_is_noticed(client: str) -> None:
    token = SEALER.seal(session(client=client))[0]
    for at, char in enumerate(token):
        for bit in range(8):
            refusal(token[:at] + chr(ord(char) ^ (1 << bit)) + token[at + 1 :])


@pytest.mark.parametrize("client", ["", "1", "12"])
def test_every_other_length_is_noticed(client: str) -> None:
    token = SEALER.seal(session(client=client))[0]
    for length in range(len(token)):
        refusal(token[:length])
    for more in ("A", "AA", "AAAA", "=", "==", "\n", " ", "\0", "-"):
        refusal(token + more)
        refusal(more + token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "=",
        "A",
        "null",
        "session",
        "../../etc/passwd",
        "\u0661",
        "\ud800",
        "a" * 100,
        "A" * (MAX_TOKEN_CHARS + 4),
        "AQ" * 40,
        "+/+/",
    ],
)
def test_tokens_that_are_none(token: str) -> None:
    assert refusal(token) in ("malformed", "of another version", "unknown key")


def test_a_token_of_another_format() -> None:
    blob = base64.urlsafe_b64decode(SEALER.seal(session())[0] + "===")
    assert refusal(base64.urlsafe_b64encode(b"\x02" + blob[1:]).rstrip(b"=").decode()) == "of another version"


def test_a_token_longer_than_any_header_is_not_looked_at() -> None:
    assert refusal(SEALER.seal(session(client="x" * MAX_TOKEN_CHARS))[0]) == "malformed"


@given(
    st.one_of(
        st.text(max_size=80), st.binary(max_size=80).map(lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode())
    )
)
def test_any_text_is_refused_and_nothing_worse(token: str) -> None:
    refusal(token)


@pytest.mark.parametrize(
    ("late", "accepted"), [(-1.0, True), (-0.001, True), (0.0, False), (0.001, False), (1e9, False)]
)
def test_tokens_end_at_their_second(late: float, accepted: bool) -> None:
    value = session()
    token = SEALER.seal(value)[0]
    if accepted:
        assert opened(token, now=value.expires + late) == value
    else:
        assert refusal(token, now=value.expires + late) == "expired"


def test_a_clock_that_jumps_and_jumps_back() -> None:
    """A session is what the clock makes of it, also where its token was opened before."""
    value = session()
    token = SEALER.seal(value)[0]
    for ahead in (-1, 3600, -1, -1e9, 1e9, -1):
        if ahead < 0:
            assert opened(token, now=value.expires + ahead) == value
        else:
            assert refusal(token, now=value.expires + ahead) == "expired"


@pytest.mark.parametrize(
    ("audience", "principal", "reason"),
    [
        ("/other", "", "of another endpoint"),
        ("", "", "of another endpoint"),
        ("/mcp/", "", "of another endpoint"),
        ("/mcp", "somebody", "of another principal"),
    ],
)
def test_tokens_belong_to_one_endpoint_and_caller(audience: str, principal: str, reason: str) -> None:
    """A session id is no use to another user."""
    assert refusal(SEALER.seal(session())[0], audience=audience, principal=principal) == reason


def test_a_token_of_somebody_is_no_use_to_nobody() -> None:
    """Nor is one of nobody to somebody."""
    token = SEALER.seal(session(principal="alice"))[0]
    assert refusal(token) == "of another principal"
    assert refusal(token, principal="bob") == "of another principal"
    assert opened(token, principal="alice").principal == "alice"


def test_another_secret_opens_nothing() -> None:
    assert refusal(SEALER.seal(session())[0], Sealer(SECRET + "!")) == "unknown key"


def test_previous_secrets_open_and_do_not_seal() -> None:
    old, new, rotating = Sealer("old"), Sealer("new"), Sealer("new", ["old", "older"])
    assert opened(old.seal(session())[0], rotating) == session()
    assert opened(Sealer("older").seal(session())[0], rotating) == session()
    assert opened(rotating.seal(session())[0], new) == session()
    assert refusal(rotating.seal(session())[0], old) == "unknown key"
    assert refusal(old.seal(session())[0], new) == "unknown key"


def test_the_key_id_alone_opens_nothing() -> None:
    """A token whose key id is swapped for another known one."""
    rotating = Sealer("new", ["old"])
    old, new = (base64.urlsafe_b64decode(s.seal(session())[0] + "===") for s in (Sealer("old"), Sealer("new")))
    swapped = old[:1] + new[1:5] + old[5:]
    assert refusal(base64.urlsafe_b64encode(swapped).rstrip(b"=").decode(), rotating) == "tampered"


def test_a_secret_named_twice_still_seals() -> None:
    sealer = Sealer(SECRET, [SECRET])
    assert opened(sealer.seal(session())[0], SEALER) == session()


def test_the_nonce_comes_from_the_given_source() -> None:
    sealer = Sealer(SECRET, random=lambda size: bytes(range(size)))
    token, name = sealer.seal(session())
    assert sealer.seal(session()) == (token, name)
    # But for the bit that is told.
    assert name == hashlib.sha256(b"\x20" + bytes(range(1, 12))).hexdigest()[:16]
    assert opened(token) == session()


# -- Tokens that were opened before -----------------------------------------------------------------------------------------


@pytest.fixture
def unsealed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens that had to be decrypted."""
    tokens: list[str] = []
    unseal = Sealer._unseal

    def counting(self: Sealer, token: str) -> OpenedSession:
        tokens.append(token)
        return unseal(self, token)

    monkeypatch.setattr(Sealer, "_unseal", counting)
    return tokens


def test_a_token_is_decrypted_once(unsealed: list[str]) -> None:
    sealer = Sealer(SECRET)
    token, name = sealer.seal(session())
    first = sealer.open(token, audience="/mcp", principal="", now=NOW)
    again = sealer.open(token, audience="/mcp", principal="", now=NOW + 1)
    assert (first, again.id, unsealed) == (again, name, [token])


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ({"now": NOW + 60}, "expired"),
        ({"now": NOW + 1e9}, "expired"),
        ({"audience": "/other"}, "of another endpoint"),
        ({"principal": "somebody"}, "of another principal"),
    ],
)
def test_a_token_that_was_good_before_is_judged_again_each_time(
    used: dict[str, Any], reason: str, unsealed: list[str]
) -> None:
    """A session may have ended since, and a token may come from somebody else."""
    sealer = Sealer(SECRET)
    token, _ = sealer.seal(session())
    for _ in range(2):
        assert opened(token, sealer) == session()
        assert refusal(token, sealer, **used) == reason
    assert unsealed == [token]


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ({"now": NOW + 60}, "expired"),
        ({"audience": "/other"}, "of another endpoint"),
        ({"principal": "x"}, "of another principal"),
    ],
)
def test_a_token_that_was_refused_first_is_good_where_it_belongs(used: dict[str, Any], reason: str) -> None:
    sealer = Sealer(SECRET)
    token, _ = sealer.seal(session())
    assert refusal(token, sealer, **used) == reason
    assert opened(token, sealer) == session()


def test_nothing_is_remembered_of_texts_that_are_no_tokens(unsealed: list[str]) -> None:
    sealer = Sealer(SECRET)
    bad = ["", "x", sealer.seal(session())[0] + "A", Sealer("other").seal(session())[0]]
    for token in [*bad, *bad]:
        refusal(token, sealer)
    assert unsealed == [*bad, *bad]


def test_what_is_remembered_is_bounded(unsealed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first, and forgetting costs nothing but another decryption."""
    monkeypatch.setattr(sessions_module, "_MAX_REMEMBERED", 2)
    sealer = Sealer(SECRET)
    tokens = [sealer.seal(session(client=str(number)))[0] for number in range(3)]
    for token in tokens:
        opened(token, sealer)
    opened(tokens[2], sealer)
    opened(tokens[1], sealer)
    assert unsealed == tokens
    assert opened(tokens[0], sealer).client == "0"
    assert unsealed == [*tokens, tokens[0]]


def test_long_tokens_are_not_remembered(unsealed: list[str]) -> None:
    """So that the bound is one on memory too."""
    sealer = Sealer(SECRET)
    token, _ = sealer.seal(session(client="x" * 10_000))
    assert opened(token, sealer) == opened(token, sealer)
    assert unsealed == [token, token]


def test_no_id_of_a_server_is_printed() -> None:
    """Whoever has it can use the session."""
    found = SEALER.open(SEALER.seal(session())[0], audience="/mcp", principal="", now=NOW)
    assert "id of a" not in repr(found)
