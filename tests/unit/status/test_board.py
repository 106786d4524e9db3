"""What has come by, and what it adds up to."""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_extproc.status.board import CALLS, SLOTS, Board, Course, call
from mcp_extproc.telemetry.exchange import Exchange
from tests.unit.telemetry.support import CALL, STARTED

NOW = STARTED / 1e9


def other(**changes: Any) -> Exchange:
    return msgspec.structs.replace(CALL, **changes)


DENIED = {
    "reason": "not_authorized", "decided_by": "no-deletes", "upstream": None, "server": None, "tool": None,
    "asked_for": "notes__add",
}  # fmt: skip


def board(*exchanges: Exchange) -> Board:
    found = Board(NOW - 10)
    for exchange in exchanges:
        found.take(exchange)
    return found


def test_a_call() -> None:
    shown = call(CALL, 7)
    assert (shown["n"], shown["method"], shown["what"], shown["server"]) == (7, "tools/call", "add", "notes")
    assert (shown["ms"], shown["server_ms"], shown["verdict"], shown["error"]) == (30.0, 20.0, "allow", None)
    assert shown["principal"] == "alice"


def test_what_is_long_is_cut() -> None:
    assert call(other(tool="x" * 10_000), 1)["what"] == "x" * 256 + "…"


def test_what_calls_add_up_to() -> None:
    found = board(CALL, other(listed=True, duration=10_000_000), other(reason="tool_error"), other(**DENIED))
    shown = found.shown(NOW + 1)
    total = shown["total"]
    assert (total["calls"], total["errors"], total["denied"], total["p50"], total["p95"]) == (4, 1, 1, 30.0, 30.0)
    [tool] = shown["tools"]
    assert (tool["server"], tool["tool"], tool["calls"], tool["errors"]) == ("notes", "add", 3, 1)
    assert shown["methods"][0]["method"] == "tools/call"
    [denial] = shown["denials"]
    assert (denial["rule"], denial["count"], denial["what"], denial["why"]) == (
        "no-deletes",
        1,
        "notes__add",
        "not_authorized",
    )
    seen = found.of_server("notes", NOW + 1)
    assert seen is not None
    assert (seen["calls"], seen["p50"]) == (3, 20.0)
    assert found.of_server("other", NOW) is None


def test_attack_a_server_with_many_tools_drives_out_none_of_others() -> None:
    found = board(CALL, *(other(server="hostile", tool=f"t{number}", listed=True) for number in range(1500)))
    tools = found.shown(NOW)["tools"]
    assert len(tools) == 1000
    assert [tool["tool"] for tool in tools if tool["server"] == "notes"] == ["add"]
    assert {"t500", "t501"} - {tool["tool"] for tool in tools} == {"t500"}


def test_made_up_names_are_no_tools() -> None:
    assert board(other(reason="server_error", code=-32602)).shown(NOW)["tools"] == []
    found = board(CALL, *(other(tool=f"t{number}", listed=True) for number in range(2000)))
    assert len(found.shown(NOW)["tools"]) == 1000


def test_nothing_is_counted_twice() -> None:
    assert board(other(has_another=True), other(batch=2)).number == 0


def test_streams_and_ends_of_sessions_are_shown_and_not_counted() -> None:
    stream = other(http_method="GET", method=None, tool=None, server=None)
    end = other(http_method="DELETE", method=None, tool=None, server=None)
    found = board(CALL, stream, end)
    assert [one["http"] for one in found.calls_after(0, 10)] == ["POST", "GET", "DELETE"]
    shown = found.shown(NOW + 1)
    assert shown["total"]["calls"] == 1
    [session] = shown["sessions"]
    assert (session["requests"], session["ended"], session["principal"]) == (1, True, "alice")
    assert shown["sessions_seen"] == 0


def test_attack_many_sessions_are_counted_though_not_kept() -> None:
    """Any client opens as many as it likes."""
    many = board(*(other(session=f"{number:012x}") for number in range(1500))).shown(NOW + 1)
    assert (many["sessions_seen"], len(many["sessions"])) == (1500, 100)


def test_sessions_of_long_ago_are_not_there() -> None:
    found = board(CALL)
    assert found.shown(NOW + 299)["sessions_seen"] == 1
    assert found.shown(NOW + 301)["sessions_seen"] == 0


def test_the_latest_calls() -> None:
    found = board(*(CALL for _ in range(CALLS + 10)))
    assert [one["n"] for one in found.calls_after(CALLS + 7, 100)] == [CALLS + 8, CALLS + 9, CALLS + 10]
    assert [one["n"] for one in found.calls_after(0, 2)] == [CALLS + 9, CALLS + 10]
    assert len(found.calls_after(0, 10_000)) == CALLS


def test_what_was_not_observed_is_not_zero() -> None:
    shown = board().shown(NOW)
    assert (shown["total"]["p50"], shown["total"]["p95"], shown["tools"]) == (None, None, [])
    course = Course(100.0)
    course.add(103.0)
    assert course.counts(105.0)[-4:] == [None, 0, 1, 0]
    assert course.counts(105.0 + 2 * SLOTS) == [0] * SLOTS
    course.add(90.0)
    assert course.counts(105.0 + 2 * SLOTS)[-1] == 1


def test_answers_of_clients_and_preflights_are_no_calls() -> None:
    answer = other(method=None, tool=None, server=None, status=202)
    preflight = other(http_method="OPTIONS", method=None, tool=None, server=None, status=200)
    assert board(answer, preflight).number == 0
