"""What `top` draws."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcp_extproc.telemetry.printable import printable

if TYPE_CHECKING:
    from mcp_extproc.client.status import Call, Cluster, Denial, Known, Quantiles, State, Tool

_NONE: Final = "–"  # noqa: RUF001 - a dash, as on the page
_BARS: Final = " ▁▂▃▄▅▆▇█"
_NOT_RECORDED: Final = "Nobody looks: calls are recorded only while the page is open, or this command in a terminal."
_TOOLS: Final = 8
_CALLS: Final = 20
"""Where there is no height."""
_FEWEST_CALLS: Final = 3
_MOST_CALLS: Final = 200

_STATES: Final = {"ready": "green", "starting": "yellow", "failed": "red"}
_VERDICTS: Final = {"allow": ("allowed", "dim"), "deny": ("denied", "yellow"), "error": ("failed", "red")}


class Seen:
    """What has come from the page, made printable: strangers have written a part of it, and whoever is at its URL the rest.

    Args:
        known: of the gateway.
        state: as it is now.
        calls: the earliest first.
    """

    def __init__(
        self,
        known: Known | None = None,
        state: State | None = None,
        calls: Sequence[Call] = (),
    ) -> None:
        self.known: Known | None = _printable(known)
        self.state: State | None = _printable(state)
        self.calls: list[Call] = _printable([*calls])
        self.is_lost = False

    def take(self, name: str, data: Any) -> None:
        """An event."""
        self.is_lost = False
        data = _printable(data)
        match name:
            case "known":
                self.known = data
            case "state":
                self.state = data
            case "begin":
                self.calls = []
            case "calls":
                self.calls = [*self.calls, *data][-_MOST_CALLS:]


def _printable(data: Any) -> Any:
    match data:
        case str():
            return printable(data)
        case list():
            return [_printable(item) for item in data]
        case dict():
            return {name: _printable(item) for name, item in data.items()}
    return data


def screen(seen: Seen, height: int | None) -> RenderableType:
    """All of it.

    Args:
        seen: what is shown.
        height: of the terminal; ``None`` where there is none.
    """
    known, state = seen.known, seen.state
    if known is None or state is None:
        return Text("Connecting", style="dim")
    board = state["board"]
    timed = (one for one in board["tools"] if one["p95"] is not None)
    tools = sorted(timed, key=lambda one: one["p95"] or 0.0, reverse=True)[:_TOOLS]
    tables = [_servers(known, state)]
    tables += [_tools(tools)] if tools else []
    tables += [_denials(board["denials"][:_TOOLS], state["now"])] if board["denials"] else []
    head = _head(seen, known, state)
    # A table has a title and a blank line above.
    used = head.plain.count("\n") + 1 + sum(table.row_count + 2 for table in tables) + 2
    count = _CALLS if height is None else max(_FEWEST_CALLS, height - used)
    last: RenderableType = _calls(seen.calls[-count:]) if seen.calls else Text("No calls yet", style="dim")
    return Group(head, *(part for table in (*tables, last) for part in ("", table)))


def _head(seen: Seen, known: Known, state: State) -> Text:
    total, some = state["board"]["total"], state["board"]["total"]["calls"] > 0
    where = known["ways"][0]["url"] if known["ways"] else known["file"]
    minute = [count or 0 for count in total["course"][-30:]]
    words = [
        f"{sum(minute) if some else _NONE} requests/min",
        f"median {duration(total['p50'])}",
        f"95 % {duration(total['p95'])}",
        f"errors {total['errors'] if some else _NONE}",
        f"denied {total['denied'] if some else _NONE}",
        f"sessions {state['board']['sessions_seen'] if state['board']['sessions'] else _NONE}",
    ]
    lost = Text("  not connected; trying again", style="red") if seen.is_lost else Text("")
    head = Text(f"MCP gateway {where}", style="bold", overflow="ellipsis", no_wrap=True) + lost
    lines = [head, Text("  ".join(words), style="dim"), Text(_bars(total["course"]), style="cyan")]
    return Text("\n").join(lines if state["records"] else [*lines, Text(_NOT_RECORDED, style="yellow")])


def _servers(known: Known, state: State) -> Table:
    table = _table("server", "state~", "protocol", "tools>", "calls>", "median>", "95 %>", "failures>", "breaker")
    for server in known["servers"]:
        numbers = None if state["envoy"] is None else state["envoy"]["clusters"].get(server["cluster"])
        seen = state["servers"].get(server["name"])
        calls, p50, p95 = (None, None, None) if seen is None else (seen["calls"], seen["p50"], seen["p95"])
        times: Quantiles = {} if numbers is None else numbers.get("time", {})
        word = server["state"] or "not asked yet"
        state_and_why = " ".join(filter(None, (word, server["problem"])))
        table.add_row(
            _said(server["name"]),
            _said(state_and_why, _STATES.get(word, "dim")),
            _said(server["version"]),
            _count(server["tools"]),
            _count(calls),
            duration(p50 or times.get("p50")),
            duration(p95 or times.get("p95")),
            _failures(numbers),
            _breaker(numbers),
        )
    return table


def _failures(numbers: Cluster | None) -> Text:
    """What Envoy has counted since its start. Without a request there is nothing to fail."""
    if numbers is None or not (numbers.get("rq_total") or numbers.get("cx_connect_fail")):
        return Text(_NONE)
    found = numbers.get("rq_5xx", 0) + numbers.get("rq_timeout", 0) + numbers.get("cx_connect_fail", 0)
    return Text(str(found), style="red" if found else "")


def _breaker(numbers: Cluster | None) -> Text:
    if numbers is None:
        return Text(_NONE)
    return Text(f"open: {', '.join(numbers['open'])}", style="red") if numbers["open"] else Text("closed", style="dim")


def _tools(tools: Sequence[Tool]) -> Table:
    table = _table("slowest tools", "server", "calls>", "median>", "95 %>", "errors>")
    for one in tools:
        errors = Text(str(one["errors"]), style="red" if one["errors"] else "")
        row = (_said(one["tool"]), _said(one["server"]), _count(one["calls"]))
        table.add_row(*row, duration(one["p50"]), duration(one["p95"]), errors)
    return table


def _denials(denials: Sequence[Denial], now: float) -> Table:
    table = _table("denied by", "count>", "last>", "what~")
    for one in denials:
        what = " ".join(filter(None, (one["what"] or one["method"], one["principal"] and f"by {one['principal']}")))
        ago = f"{max(0, now - one['last']):.0f} s ago"
        table.add_row(_said(one["rule"]), _count(one["count"]), ago, _said(what))
    return table


def _calls(calls: Sequence[Call]) -> Table:
    table = _table("time", "verdict", "what~", "method", "server", "caller", "took>")
    for call in reversed(calls):
        word, style = _VERDICTS.get(call["verdict"], (call["verdict"], ""))
        if call["verdict"] == "allow" and call["error"]:
            word, style = "error", "red"
        why = "" if call["verdict"] == "allow" else f"  {call['rule'] or call['why'] or call['error'] or ''}"
        table.add_row(
            datetime.fromtimestamp(call["time"]).astimezone().strftime("%H:%M:%S"),
            Text(word, style=style),
            _said(call["what"] or "") + _said(why, "dim"),
            _said(call["method"] or call["http"]),
            _said(call["server"]),
            _said(call["principal"]),
            duration(call["ms"]),
        )
    return table


def _said(text: str | None, style: str = "") -> Text:
    """What strangers may have written: no markup, one line."""
    return Text(_NONE if text is None else text, style=style, overflow="ellipsis", no_wrap=True)


def _table(*columns: str) -> Table:
    """Of columns with these titles; those of numbers end with ``>``, and those that are cut first with ``~``."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        is_number = column.endswith(">")
        table.add_column(
            column.rstrip(">~"),
            justify="right" if is_number else "left",
            no_wrap=not column.endswith("~"),
            overflow="ellipsis",
        )
    return table


def _bars(course: Sequence[int | None]) -> str:
    """How something went over time: nothing where it was not observed."""
    most = max((count or 0 for count in course), default=0) or 1
    return "".join(" " if count is None else _BARS[-(-count * (len(_BARS) - 2) // most) + 1] for count in course)


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def duration(ms: float | None) -> str:
    """Milliseconds for people.

    >>> duration(None), duration(0.5), duration(7.25), duration(120.4), duration(1500)
    ('–', '0.50 ms', '7.2 ms', '120 ms', '1.50 s')
    """  # noqa: RUF002 - a dash, as on the page
    if ms is None:
        return _NONE
    if ms < 1000:
        return f"{ms:.{2 if ms < 1 else 1 if ms < 10 else 0}f} ms"
    return f"{ms / 1000:.{2 if ms < 10_000 else 1}f} s"
