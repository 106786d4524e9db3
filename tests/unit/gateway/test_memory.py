"""What a worker remembers of sessions is bounded, and always leads to the newest."""

from __future__ import annotations

from mcp_extproc.gateway.decision import SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import upstream


def ref(server: str = "a", known: UpstreamSession | None = None, anchor: str | None = None) -> SessionRef:
    return SessionRef(server, anchor or (known.id if known and known.id else "token 1"), known, "2025-11-25", b"{}")


KNOWN = ref(known=upstream("a", id="first"))


def test_nothing_remembered_leaves_the_tokens_session() -> None:
    memory = SessionMemory()
    assert memory.current(KNOWN) == KNOWN.known
    assert memory.current(ref()) is None


def test_a_session_opened_late_is_found_under_the_clients_token() -> None:
    memory = SessionMemory()
    memory.replace("a", "token 1", upstream("a", id="late"))
    assert memory.current(ref()) == upstream("a", id="late")
    assert memory.current(ref("b")) is None
    assert memory.current(ref(anchor="token 2")) is None


def test_a_server_may_lose_its_sessions_more_than_once() -> None:
    memory = SessionMemory()
    memory.replace("a", "first", upstream("a", id="second"))
    memory.replace("a", "second", upstream("a", id="third"))
    assert memory.current(KNOWN) == upstream("a", id="third")
    assert memory.current(ref("b", upstream("b", id="first"))) == upstream("b", id="first")


def test_a_server_may_stop_to_have_sessions() -> None:
    memory = SessionMemory()
    memory.replace("a", "first", upstream("a", id=None))
    assert memory.current(KNOWN) == upstream("a", id=None)


def test_a_server_that_repeats_its_ids_does_not_lead_in_circles() -> None:
    memory = SessionMemory()
    memory.replace("a", "first", upstream("a", id="first"))
    assert memory.current(KNOWN) == upstream("a", id="first")
    memory.replace("a", "first", upstream("a", id="second"))
    memory.replace("a", "second", upstream("a", id="first"))
    assert memory.current(KNOWN) is not None


def test_a_replacement_can_be_taken_back() -> None:
    memory = SessionMemory()
    memory.replace("a", "first", upstream("a", id="second"))
    assert memory.forget("a", "first") == upstream("a", id="second")
    assert memory.forget("a", "first") is None
    assert memory.current(KNOWN) == KNOWN.known


def test_the_oldest_replacements_are_forgotten_first() -> None:
    memory = SessionMemory(capacity=2)
    for anchor in ("1", "2", "1", "3"):
        memory.replace("a", anchor, upstream("a", id=f"late {anchor}"))
    assert [memory.current(ref(anchor=anchor)) is not None for anchor in "123"] == [True, False, True]


def test_ended_sessions() -> None:
    memory = SessionMemory(capacity=2)
    assert not memory.has_ended("1")
    for session in "123":
        memory.end(session)
    assert [memory.has_ended(session) for session in "123"] == [False, True, True]
