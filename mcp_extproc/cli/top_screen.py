"""What `top` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_ASKED_WHEN: Final = "they are asked how they are while the page is open, or this command in a terminal."
_NOT_RECORDED: Final = "Nobody looks: calls are recorded only while the page is open, or this command in a terminal."
_TOOLS: Final = 8
_CALLS: Final = 20
"""Where there is no height."""
_FEWEST_CALLS: Final = 3
_NARROWEST: Final = 12
"""Characters of a column that may be cut."""
_GAP: Final = 2
_MOST_CALLS: Final = 200

Row = Mapping[str, Text | str]

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


def screen(seen: Seen, width: int, height: int | None) -> RenderableType:
    """All of it.

    Args:
        seen: what is shown.
        width: of the terminal. Where that has no room for a table, its less important columns are left out.
        height: of the terminal; ``None`` where there is none.
    """
    known, state = seen.known, seen.state
    if known is None or state is None:
        return Text("Connecting", style="dim")
    board = state["board"]
    timed = (one for one in board["tools"] if one["p95"] is not None)
    tools = sorted(timed, key=lambda one: one["p95"] or 0.0, reverse=True)[:_TOOLS]
    tables = [_servers(known, state, width)] if known["servers"] else []
    tables += [_tools(tools, width)] if tools else []
    tables += [_denials(board["denials"][:_TOOLS], state["now"], width)] if board["denials"] else []
    head = _head(seen, known, state, is_once=height is None)
    # A table has a title and a blank line above.
    used = head.plain.count("\n") + 1 + sum(table.row_count + 2 for table in tables) + 2
    count = _CALLS if height is None else max(_FEWEST_CALLS, height - used)
    last: RenderableType = _calls(seen.calls[-count:], width) if seen.calls else Text("No calls yet", style="dim")
    return Group(head, *(part for table in (*tables, last) for part in ("", table)))


def _head(seen: Seen, known: Known, state: State, *, is_once: bool) -> Text:
    total, some = state["board"]["total"], state["board"]["total"]["calls"] > 0
    where = known["ways"][0]["url"] if known["ways"] else known["file"]
    minute = [count or 0 for count in total["course"][-30:]]
    words = [
        f"{sum(minute) if some else _NONE} requests/min",
        f"median {duration(total['p50'])}",
        f"95 % {duration(total['p95'])}",
        f"errors {total['errors'] if some else _NONE}",
        f"denied {total['denied'] if some else _NONE}",
        f"open sessions {state['board']['sessions_seen'] if state['board']['sessions'] else _NONE}",
    ]
    lost = Text("  not connected; trying again", style="red") if seen.is_lost else Text("")
    head = Text(f"MCP gateway {where}", style="bold", overflow="ellipsis", no_wrap=True) + lost
    lines = [head, Text("  ".join(words), style="dim"), Text(_bars(total["course"]), style="cyan")]
    if is_once and known["servers"]:
        asked = known["asked"]
        since = "not asked yet" if asked is None else f"as of {span(max(0.0, state['now'] - asked))} ago"
        lines.append(Text(f"Servers {since}: {_ASKED_WHEN}", style="yellow"))
    if not state["records"]:
        lines.append(Text(_NOT_RECORDED, style="yellow"))
    return Text("\n").join(lines)


def _servers(known: Known, state: State, width: int) -> Table:
    rows: list[Row] = []
    for server in known["servers"]:
        numbers = None if state["envoy"] is None else state["envoy"]["clusters"].get(server["cluster"])
        seen = state["servers"].get(server["name"])
        calls, p50, p95 = (None, None, None) if seen is None else (seen["calls"], seen["p50"], seen["p95"])
        times: Quantiles = {} if numbers is None else numbers.get("time", {})
        word = server["state"] or "not asked yet"
        state_and_why = " ".join(filter(None, (word, server["problem"])))
        rows.append(
            {
                "server": _said(server["name"]),
                "state~": _said(state_and_why, _STATES.get(word, "dim")),
                "protocol": _said(server["version"]),
                "tools>": _count(server["tools"]),
                "calls>": _count(calls),
                "median>": duration(p50 or times.get("p50")),
                "95 %>": duration(p95 or times.get("p95")),
                "failures>": _failures(numbers),
                "breaker": _breaker(numbers),
            }
        )
    return _table(rows, width, ("protocol", "breaker", "tools>", "median>", "calls>"))


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


def _tools(tools: Sequence[Tool], width: int) -> Table:
    rows: list[Row] = [
        {
            "slowest tools~": _said(one["tool"]),
            "server": _said(one["server"]),
            "calls>": _count(one["calls"]),
            "median>": duration(one["p50"]),
            "95 %>": duration(one["p95"]),
            "errors>": Text(str(one["errors"]), style="red" if one["errors"] else ""),
        }
        for one in tools
    ]
    return _table(rows, width, ("calls>", "median>", "server"))


def _denials(denials: Sequence[Denial], now: float, width: int) -> Table:
    rows: list[Row] = []
    for one in denials:
        what = " ".join(filter(None, (one["what"] or one["method"], one["principal"] and f"by {one['principal']}")))
        ago = f"{max(0, now - one['last']):.0f} s ago"
        rows.append(
            {"denied by~": _said(one["rule"]), "count>": _count(one["count"]), "last>": ago, "what~": _said(what)}
        )
    return _table(rows, width, ("last>", "count>"))


def _calls(calls: Sequence[Call], width: int) -> Table:
    rows: list[Row] = []
    for call in reversed(calls):
        word, style = _VERDICTS.get(call["verdict"], (call["verdict"], ""))
        if call["verdict"] == "allow" and call["error"]:
            word, style = "error", "red"
        why = "" if call["verdict"] == "allow" else f"  {call['rule'] or call['why'] or call['error'] or ''}"
        method = call["method"] or call["http"]
        rows.append(
            {
                "time": datetime.fromtimestamp(call["time"]).astimezone().strftime("%H:%M:%S"),
                "verdict": Text(word, style=style),
                "what~": _said(call["what"] or method) + _said(why + (f"  {method}" if call["what"] else ""), "dim"),
                "server": _said(call["server"]),
                "caller": _said(call["principal"]),
                "took>": duration(call["ms"]),
            }
        )
    return _table(rows, width, ("server", "time", "caller"))


def _said(text: str | None, style: str = "") -> Text:
    """What strangers may have written: no markup, one line."""
    return Text(_NONE if text is None else text, style=style, overflow="ellipsis", no_wrap=True)


def _table(rows: Sequence[Row], width: int, spare: Sequence[str]) -> Table:
    """Of rows with the same columns. The names of those with numbers end with ``>``, and of those that may be cut with ``~``.

    Args:
        rows: at least one.
        width: of the terminal.
        spare: columns that are left out where there is no room for all, the first ones first.
    """
    cells = [{name: cell if isinstance(cell, Text) else Text(cell) for name, cell in row.items()} for row in rows]
    widest = {name: max(len(name.rstrip("~>")), *(row[name].cell_len for row in cells)) for name in cells[0]}
    needs = {name: min(_NARROWEST, size) if name.endswith("~") else size for name, size in widest.items()}
    for name in spare:
        if sum(needs.values()) + _GAP * (len(needs) - 1) > width:
            del needs[name]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for name in needs:
        table.add_column(
            name.rstrip("~>"),
            justify="right" if name.endswith(">") else "left",
            no_wrap=not name.endswith("~"),
            overflow="ellipsis",
        )
    for row in cells:
        table.add_row(*(row[name] for name in needs))
    return table


def _bars(course: Sequence[int | None]) -> str:
    """How something went over time: nothing where it was not observed."""
    most = max((count or 0 for count in course), default=0) or 1
    return "".join(" " if count is None else _BARS[-(-count * (len(_BARS) - 2) // most) + 1] for count in course)


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def span(seconds: float) -> str:
    """Time that has passed, for people.

    >>> span(7.9), span(150), span(7260), span(200_000)
    ('7 s', '2 min', '2 h 1 min', '2 d 7 h')
    """
    if seconds < 60:
        return f"{int(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 86400)} d {int(seconds % 86400 // 3600)} h"


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
