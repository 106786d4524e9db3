"""What `top` draws."""

from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console

from mcp_extproc.cli.top_screen import Seen, screen

COURSE = [None] * 57 + [0, 4, 8]
TOTAL = {"calls": 12, "errors": 1, "denied": 2, "last": 1.0, "p50": 7.25, "p95": 120.4, "course": COURSE}
KNOWN: Any = {
    "file": "gateway.yaml",
    "asked": 13.0,
    "ways": [{"url": "http://localhost:1975/mcp"}],
    "servers": [
        {
            "name": "notes",
            "state": "ready",
            "version": "2025-11-25",
            "tools": 3,
            "problem": None,
            "cluster": "mcp/notes",
        },
        {
            "name": "gone",
            "state": "failed",
            "version": None,
            "tools": None,
            "problem": "refused\x1b[31m",
            "cluster": "mcp/gone",
        },
    ],
}
CALL: Any = {
    "n": 1, "time": 1.0, "verdict": "allow", "error": None, "what": "add\x1b]0;x\x07", "method": "tools/call", "http": "POST",
    "server": "notes", "principal": None, "ms": 7.25, "rule": None, "why": None,
}  # fmt: skip
STATE: Any = {
    "now": 20.0,
    "records": True,
    "envoy": {
        "clusters": {
            "mcp/notes": {"open": ["rq"], "rq_total": 4, "rq_5xx": 2, "time": {"p50": 3.0, "p95": 4.0}},
            "mcp/gone": {"open": []},
        }
    },
    "servers": {"notes": {**TOTAL, "calls": 12}, "gone": None},
    "board": {
        "total": TOTAL,
        "tools": [{"server": "notes", "tool": "[bold]add", **TOTAL}],
        "denials": [
            {"rule": "rate_limit", "count": 2, "last": 10.0, "what": "search", "method": "tools/call", "principal": "bob"}
        ],
        "sessions": [{}],
        "sessions_seen": 1,
    },
}  # fmt: skip


def drawn(seen: Seen, height: int | None = None, width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(screen(seen, width, height))
    return out.getvalue()


def test_all_of_it() -> None:
    denied: Any = {**CALL, "verdict": "deny", "rule": "no-deletes", "what": "delete"}
    text = drawn(Seen(KNOWN, STATE, [CALL, denied]))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "MCP gateway http://localhost:1975/mcp"
    assert "12 requests/min median 7.2 ms 95 % 120 ms errors 1 denied 2 open sessions 1" in lines
    assert "▁▅█" in text
    assert "notes ready 2025-11-25 3 12 7.2 ms 120 ms 2 open: rq" in lines
    assert "gone failed refused\\u001b[31m – – – – – – closed" in lines  # noqa: RUF001 - a dash, as on the page
    assert "[bold]add notes 12 7.2 ms 120 ms 1" in lines
    assert "rate_limit 2 10 s ago search by bob" in lines
    assert any("denied delete no-deletes tools/call notes" in line for line in lines)
    assert any("allowed add\\u001b]0;x\\u0007 tools/call" in line for line in lines)
    assert "\x1b" not in text


def test_what_was_not_observed_is_not_zero() -> None:
    nothing = {**TOTAL, "calls": 0, "p50": None, "p95": None, "course": [None] * 60}
    board = {**STATE["board"], "total": nothing, "tools": [], "denials": [], "sessions": []}
    state: Any = {**STATE, "envoy": None, "servers": {}, "board": board, "records": False}
    text = drawn(Seen(KNOWN, state))
    assert "0" not in text.split("server")[0].replace("http://localhost:1975/mcp", "").replace("95", "")
    assert "No calls yet" in text
    assert "Nobody looks" in text
    assert drawn(Seen()) == "Connecting\n"


def test_it_fits_the_terminal() -> None:
    calls: Any = [{**CALL, "n": number} for number in range(200)]
    assert len(drawn(Seen(KNOWN, STATE, calls), 30).splitlines()) == 30
    assert drawn(Seen(KNOWN, STATE, calls), 5).count("tools/call") == 3


def test_a_narrow_terminal_has_fewer_columns_and_their_values_are_whole() -> None:
    """Of a server its state, and of a call what it was and how long it took, are there at any width."""
    deny: Any = {**CALL, "verdict": "deny", "rule": "no-deletes", "what": "delete_everything", "principal": "operator"}
    titles = {
        160: ["server", "state", "protocol", "tools", "calls", "median", "95", "%", "failures", "breaker"],
        60: ["server", "state", "tools", "calls", "median", "95", "%", "failures"],
        40: ["server", "state", "95", "%", "failures"],
    }
    for width, expected in titles.items():
        lines = drawn(Seen(KNOWN, STATE, [deny]), width=width).splitlines()
        assert all(len(line) <= width for line in lines)
        [servers] = [line.split() for line in lines if line.startswith("server ")]
        assert servers == expected
        assert any(line.split()[:2] == ["notes", "ready"] and " 120 ms" in line for line in lines)
        [call] = [line for line in lines if re.search("denied +delete", line)]
        assert call.endswith(" 7.2 ms")
        assert "operator" in call


def test_servers_that_were_not_asked() -> None:
    """Printed once: nobody looks, so it says how old that is."""
    servers = [{**server, "state": None, "problem": None} for server in KNOWN["servers"]]
    unasked: Any = {**KNOWN, "servers": servers, "asked": None}
    empty: Any = {**KNOWN, "servers": []}
    assert "Servers not asked yet: they are asked how they are while" in drawn(Seen(unasked, STATE))
    assert "Servers as of 7 s ago: they are asked how they are while" in drawn(Seen(KNOWN, STATE))
    assert "they are asked" not in drawn(Seen(unasked, STATE), 30), "they are, at a terminal"
    assert "they are asked" not in drawn(Seen(KNOWN, STATE), 30)
    assert not re.search("^server ", drawn(Seen(empty, STATE)), re.MULTILINE)


def test_events() -> None:
    seen = Seen()
    for name, data in (("known", KNOWN), ("begin", {}), ("state", STATE), ("calls", [CALL] * 300)):
        seen.take(name, data)
    assert len(seen.calls) == 200
    seen.is_lost = True
    assert "not connected" in drawn(seen)
    seen.take("begin", {})
    assert (seen.calls, seen.is_lost) == ([], False)


def everywhere(data: Any, text: str) -> Any:
    """With a text added to each that is there."""
    if isinstance(data, dict):
        return {name: everywhere(item, text) for name, item in data.items()}
    if isinstance(data, list):
        return [everywhere(item, text) for item in data]
    return data + text if isinstance(data, str) else data


def test_nothing_that_a_terminal_obeys_is_drawn() -> None:
    """Whatever is at the URL: where a gateway was killed, somebody else's program may have its port by now."""
    text = "[/]\x1b]52;c;eA==\x07"
    known, state, call = (everywhere(data, text) for data in (KNOWN, STATE, CALL))
    state["envoy"] = {"clusters": {f"mcp/{name}{text}": {"open": ["rq" + text]} for name in ("notes", "gone")}}
    assert "\x1b" not in drawn(Seen(known, state, [call]))
    later = Seen()
    for name, data in (("known", known), ("state", state), ("calls", [call])):
        later.take(name, data)
    assert drawn(later) == drawn(Seen(known, state, [call]))
