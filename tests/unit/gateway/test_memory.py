"""What a worker remembers of sessions is bounded, and always leads to the newest.

At its bound each kind forgets the oldest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints
from mcp_extproc.gateway.effects import BeginSession, EndSession
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.memory import SessionMemory, Settings
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import upstream

NOW = 1_800_000_000.0


def ref(server: str = "a", known: UpstreamSession | None = None, anchor: str | None = None) -> SessionRef:
    return SessionRef(
        server, anchor or (known.id if known and known.id else "token 1"), known, "2025-11-25", frozenset()
    )


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


def test_a_session_with_a_server_is_over_with_the_clients() -> None:
    """Also for whoever does not know whose it is."""
    assert not KNOWN.client
    memory = SessionMemory()
    assert not memory.is_over(KNOWN)
    memory.apply(EndSession("1", (KNOWN,)))
    assert memory.is_over(KNOWN)
    assert not memory.is_over(ref(anchor="other"))
    memory.replace("a", "other", upstream("a", id="first"))
    assert not memory.is_over(KNOWN), "the server has given the same id again"
    memory.apply(EndSession("1", (KNOWN,)))
    memory.apply(BeginSession("2", 100.0, (KNOWN,)))
    assert not memory.is_over(KNOWN), "and again"


def test_a_session_with_a_server_is_over_under_its_latest_id() -> None:
    memory = SessionMemory()
    memory.replace("a", "first", upstream("a", id="second"))
    memory.apply(EndSession("1", (KNOWN,)))
    assert memory.is_over(ref(known=upstream("a", id="second")))


def test_a_session_that_a_server_opens_has_nothing_of_an_earlier_one_with_its_id() -> None:
    """Some servers count, and begin anew when they restart. Alice's replacement, settings and end are none of Bob's."""
    for opened_late in (False, True):
        memory = SessionMemory()
        memory.replace("a", "1", upstream("a", id="7"))
        memory.subscribe(ref(anchor="7"), "x:alice")
        memory.replace("a", "7", upstream("a", id="8"))
        memory.subscribe(ref(anchor="2"), "x:alice")
        memory.apply(EndSession("alice", (ref(anchor="2"),)))
        memory.subscribe(ref(anchor="2"), "x:alice")
        for id in ("1", "2"):
            bobs = upstream("a", id=id)
            if opened_late:
                memory.replace("a", f"token bob {id}", bobs)
                found = ref(anchor=f"token bob {id}")
            else:
                found = ref(known=bobs)
                memory.apply(BeginSession("bob", 100.0, (found,)))
            assert memory.current(found) == bobs
            assert settings(memory, id) == (None, [])
            assert not memory.is_over(found)


def test_the_end_of_one_session_is_not_that_of_another_with_the_same_server_id() -> None:
    """A server that gives all clients one id can't tell them apart. The gateway can."""
    alices, bobs = (replace(KNOWN, client=name) for name in ("alice", "bob"))
    memory = SessionMemory()
    memory.apply(EndSession("alice", (alices,)))
    assert memory.is_over(alices)
    assert not memory.is_over(bobs)


# -- Settings -------------------------------------------------------------------------------------------------------------


def settings(memory: SessionMemory, anchor: str, server: str = "a") -> tuple[str | None, list[str]]:
    found = memory.settings(server, anchor)
    return (None, []) if found is None else (found.level, [*found.subscriptions])


def test_settings_are_kept_under_the_session_they_were_told_to() -> None:
    memory = SessionMemory()
    assert memory.settings("a", "first") is None
    memory.set_level(KNOWN, "info")
    memory.subscribe(KNOWN, "x:1")
    memory.subscribe(KNOWN, "x:2")
    memory.subscribe(KNOWN, "x:1")
    memory.unsubscribe(KNOWN, "x:3")
    assert memory.settings("a", "first") == Settings("info", {"x:1": None, "x:2": None})
    memory.unsubscribe(KNOWN, "x:1")
    memory.set_level(KNOWN, "error")
    assert settings(memory, "first") == ("error", ["x:2"])
    assert memory.settings("b", "first") is None
    assert memory.settings("a", "other") is None


def test_settings_move_to_the_session_that_replaces_a_lost_one() -> None:
    """And again, when that is lost too; nothing stays behind for a stranger."""
    memory = SessionMemory()
    memory.set_level(KNOWN, "info")
    memory.replace("a", "first", upstream("a", id="second"))
    assert settings(memory, "first") == (None, [])
    assert settings(memory, "second") == ("info", [])
    memory.subscribe(KNOWN, "x:1")
    memory.replace("a", "second", upstream("a", id="third"))
    assert settings(memory, "third") == ("info", ["x:1"])
    assert settings(memory, "second") == (None, [])


def test_settings_of_a_server_without_session_ids_stay_where_they_are() -> None:
    memory = SessionMemory()
    late = ref()
    memory.set_level(late, "info")
    memory.replace("a", "token 1", upstream("a", id=None))
    assert settings(memory, "token 1") == ("info", [])
    memory.subscribe(late, "x:1")
    assert settings(memory, "token 1") == ("info", ["x:1"])


def test_settings_made_before_a_session_was_opened_late_are_told_to_it() -> None:
    memory = SessionMemory()
    memory.set_level(ref(), "info")
    memory.replace("a", "token 1", upstream("a", id="late"))
    memory.subscribe(ref(), "x:1")
    assert settings(memory, "late") == ("info", ["x:1"])


def test_a_client_can_not_subscribe_without_end() -> None:
    memory = SessionMemory()
    for number in range(1001):
        memory.subscribe(KNOWN, f"x:{number}")
    uris = settings(memory, "first")[1]
    assert (len(uris), uris[0], uris[-1]) == (1000, "x:1", "x:1000")


def test_the_oldest_settings_are_forgotten_first() -> None:
    memory = SessionMemory(capacity=2)
    for anchor in ("1", "2", "1", "3"):
        memory.set_level(ref(anchor=anchor), "info")
    assert [memory.settings("a", anchor) is not None for anchor in "123"] == [True, False, True]


# -- Client sessions -------------------------------------------------------------------------------------------------------


def test_log_levels() -> None:
    memory = SessionMemory(capacity=2)
    assert memory.level("1") is None
    for session, level in (("1", "info"), ("2", "error"), ("1", "debug"), ("3", "alert")):
        memory.remember_level(session, level)
    assert [memory.level(session) for session in "123"] == ["debug", None, "alert"]


def test_owners_are_known_for_their_time_and_of_their_list() -> None:
    memory = SessionMemory()
    memory.remember_owners("1", "tools/list", {"x": "a"}, 100.0)
    assert memory.owners("1", "tools/list", 99.9) == {"x": "a"}
    assert memory.owners("1", "tools/list", 100.0) is None
    assert memory.owners("1", "prompts/list", 0.0) is None
    assert memory.owners("2", "tools/list", 0.0) is None
    memory.remember_owners("1", "tools/list", {}, 200.0)
    assert memory.owners("1", "tools/list", 100.0) == {}


def test_owners_are_forgotten_together() -> None:
    memory = SessionMemory()
    for session in ("1", "2"):
        for kind in ("tools/list", "resources/list"):
            memory.remember_owners(session, kind, {}, 100.0)
    memory.forget_owners("1")
    memory.forget_owners("unknown")
    found = [memory.owners(session, kind, 0.0) for session in "12" for kind in ("tools/list", "resources/list")]
    assert found == [None, None, {}, {}]


def test_what_was_listed_last_counts() -> None:
    memory = SessionMemory()
    memory.remember_listed("1", "tools/list", {"a": {"x": DEFAULTS}, "b": {}}, 1.0)
    memory.remember_listed("1", "prompts/list", {"a": {"p": DEFAULTS}}, 2.0)
    memory.remember_listed("1", "tools/list", {"b": {"y": DEFAULTS}}, 3.0)

    def listed(kind: str, server: str) -> tuple[Any, float]:
        found = memory.listed("1", kind, server)
        assert found is not None
        return found.names, found.at

    assert listed("tools/list", "a") == ({"x": DEFAULTS}, 1.0)
    assert listed("tools/list", "b") == ({"y": DEFAULTS}, 3.0)
    assert listed("prompts/list", "a") == ({"p": DEFAULTS}, 2.0)
    assert memory.listed("1", "prompts/list", "b") is None
    assert memory.listed("2", "tools/list", "a") is None


def test_an_edition_lasts_as_long_as_the_list_and_never_returns() -> None:
    memory = SessionMemory()
    first, second = {"x": DEFAULTS}, {"x": Hints(readOnlyHint=True)}
    editions = []
    for number, names in enumerate((first, first, second, first)):
        memory.remember_listed("1", "tools/list", {"a": names}, float(number))
        found = memory.listed("1", "tools/list", "a")
        assert found is not None
        assert found.at == number
        editions.append(found.edition)
    assert editions[0] == editions[1]
    assert len(set(editions)) == 3


@pytest.mark.parametrize("forget", [SessionMemory.forget_owners, SessionMemory.end])
def test_what_was_listed_is_forgotten_with_the_rest(forget: Callable[[SessionMemory, str], None]) -> None:
    memory = SessionMemory()
    for session in ("1", "2"):
        memory.remember_listed(session, "tools/list", {"a": {}}, 1.0)
    forget(memory, "1")
    assert memory.listed("1", "tools/list", "a") is None
    assert memory.listed("2", "tools/list", "a") is not None


def test_owners_are_bounded() -> None:
    """Each entry may hold thousands of names, so there are fewer of them than of other things."""
    memory = SessionMemory()
    for number in range(1001):
        memory.remember_owners(str(number), "tools/list", {}, 100.0)
    assert memory.owners("0", "tools/list", 0.0) is None
    assert memory.owners("1", "tools/list", 0.0) == {}


# -- Requests under way -----------------------------------------------------------------------------------------------------


def test_progress_tokens_are_those_of_requests_under_way() -> None:
    """Those of this session, and by their type."""
    memory = SessionMemory()
    memory.started("1", b"7", NOW)
    assert memory.is_running("1", b"7")
    assert not memory.is_running("1", b'"7"')
    assert not memory.is_running("2", b"7")
    memory.finished("1", b"7")
    assert not memory.is_running("1", b"7")


def test_a_token_that_is_used_twice_is_over_when_both_requests_are() -> None:
    memory = SessionMemory()
    memory.started("1", b"7", NOW)
    memory.started("1", b"7", NOW)
    memory.finished("1", b"7")
    assert memory.is_running("1", b"7")
    memory.finished("1", b"7")
    assert not memory.is_running("1", b"7")


def test_nothing_is_left_of_requests_that_are_over() -> None:
    """Asking leaves nothing either, nor does an end without a beginning make one less under way."""
    memory = SessionMemory()
    assert not memory.is_running("1", b"7")
    memory.finished("1", b"7")
    memory.started("1", b"7", NOW)
    assert memory.is_running("1", b"7")
    memory.finished("1", b"7")
    assert not memory._running


def test_a_request_whose_end_is_not_seen_counts_as_over_in_time() -> None:
    memory = SessionMemory()
    memory.started("1", b"7", NOW + 30)
    memory.started("1", b"8", NOW + 30)
    memory.goes_on("1", b"8", NOW + 60)
    memory.goes_on("1", b"9", NOW + 60)
    memory.forget_finished(NOW + 29)
    assert memory.is_running("1", b"7")
    memory.forget_finished(NOW + 30)
    assert not memory.is_running("1", b"7")
    assert memory.is_running("1", b"8")
    assert not memory.is_running("1", b"9")
    memory.forget_finished(NOW + 60)
    assert not memory._running


# -- Bytes ------------------------------------------------------------------------------------------------------------------


LONG = "x:" + "y" * 10_000


def test_subscriptions_of_a_session_are_bounded_in_bytes() -> None:
    memory = SessionMemory()
    for number in range(1000):
        memory.subscribe(KNOWN, f"{LONG}{number}")
    uris = settings(memory, "first")[1]
    assert sum(map(len, uris)) <= 256 * 1024
    assert uris[-1] == f"{LONG}999"


def test_settings_of_all_sessions_are_bounded_in_bytes() -> None:
    memory = SessionMemory()
    for anchor in range(500):
        for number in range(25):
            memory.subscribe(ref(anchor=str(anchor)), f"{LONG}{number}")
    assert memory._settings.size <= 64 << 20
    assert settings(memory, "499")[1]
    assert not settings(memory, "0")[1]


def test_sessions_opened_late_are_bounded_in_bytes() -> None:
    memory = SessionMemory()
    for number in range(20_000):
        memory.replace("a", str(number), upstream("a", id=f"{number}" + "y" * 4000))
    assert memory._late.size <= 64 << 20
    assert memory.current(ref(anchor="0")) is None


def test_the_end_of_a_session_frees_what_was_set_in_it() -> None:
    memory = SessionMemory()
    memory.replace("b", "token 1", upstream("b", id="late"))
    memory.subscribe(KNOWN, LONG)
    memory.subscribe(ref("b"), LONG)
    memory.remember_level("s", "info")
    memory.remember_owners("s", "tools/list", {"x": "a"}, 100.0)
    memory.apply(EndSession("s", (KNOWN, ref("b"))))
    assert (memory.settings("a", "first"), memory.settings("b", "late")) == (None, None)
    assert (memory.level("s"), memory.owners("s", "tools/list", 0.0)) == (None, None)
    assert memory._settings.size == 0
    assert memory.current(ref("b")) == upstream("b", id="late"), "it has still to be ended"


def test_settings_go_back_with_a_session_that_is_taken_back() -> None:
    memory = SessionMemory()
    memory.set_level(KNOWN, "info")
    memory.replace("a", "first", upstream("a", id="second"))
    memory.forget("a", "first")
    assert settings(memory, "first") == ("info", [])


# -- Sessions that nobody ends ---------------------------------------------------------------------------------------------


def test_sessions_with_servers_outlive_no_token() -> None:
    """The current ones: a server may have got another one, or its first, since the client's session began."""
    memory = SessionMemory()
    memory.apply(BeginSession("1", 100.0, (KNOWN, ref("b"), ref("c"))))
    memory.apply(BeginSession("2", 200.0, (ref("c", upstream("c", id="other")),)))
    memory.replace("a", "first", upstream("a", id="second"))
    memory.replace("b", "token 1", upstream("b", id="late"))
    assert memory.expired(99.0) == []
    [first] = memory.expired(100.0)
    assert (first.name, first.version) == ("1", KNOWN.version)
    assert first.upstreams == (("a", upstream("a", id="second")), ("b", upstream("b", id="late")))
    assert memory.expired(100.0) == []
    assert memory.expired(200.0) == [("2", KNOWN.version, (("c", upstream("c", id="other")),))]


def test_a_session_that_its_client_ended_is_not_ended_again() -> None:
    memory = SessionMemory()
    memory.apply(BeginSession("1", 100.0, (KNOWN,)))
    memory.apply(EndSession("1", (KNOWN,)))
    assert memory.expired(100.0) == []
