"""Which calls wait: the first entry that matches, and those that can't be told."""

from __future__ import annotations

from typing import Any

from mcp_extproc.config.vetting import Vetting
from mcp_extproc.gateway.authorization.conditions import Params, Question
from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, Item
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.gateway.vetting.entries import VettingEntries
from tests.unit.gateway.support import message

DELETE = Item("tools", "github", "delete_all")


def entries(*given: dict[str, Any]) -> VettingEntries:
    return VettingEntries(tuple(map(Vetting.model_validate, given)))


def asked(arguments: Any = None, principal: Principal = ANONYMOUS, most: int = 1000) -> Question:
    params = Params(message("tools/call", {"name": "x", "arguments": arguments or {}}), most)
    return Question(principal, use="tools/call", params=params)


def found(
    vetting: VettingEntries, item: Item = DELETE, hints: Hints = DEFAULTS, question: Question | None = None
) -> Any:
    entry = vetting.of(item, hints, question or asked())
    return None if entry is None else entry.timeout


def test_the_first_entry_that_matches_says_how() -> None:
    vetting = entries(
        {"servers": ["weather"], "timeout": "1s"},
        {"tools": ["delete_*"], "servers": ["git*"], "timeout": "2s"},
        {"timeout": "3s"},
    )
    assert found(vetting) == 2
    assert found(vetting, Item("tools", "weather", "delete_all")) == 1
    assert found(vetting, Item("tools", "gitlab", "read")) == 3
    assert found(entries({"tools": ["delete"]})) is None


def test_only_tools_are_called() -> None:
    assert entries({}).may_concern(DELETE)
    assert not entries({}).may_concern(Item("prompts", "github", "delete_all"))
    assert not entries({"tools": ["read"]}).may_concern(DELETE)


def test_annotations() -> None:
    vetting = entries({"annotations": {"destructiveHint": True, "readOnlyHint": False}})
    assert vetting.asks_hints
    assert vetting.needs_hints(DELETE)
    assert found(vetting) == 120
    assert found(vetting, hints=Hints(readOnlyHint=True)) is None
    assert not entries({"tools": ["delete_*"]}, {"annotations": {"destructiveHint": True}}).needs_hints(DELETE)
    unsure = entries({"when": "false"}, {"annotations": {"destructiveHint": True}})
    assert unsure.needs_hints(DELETE)
    other = entries({"annotations": {"destructiveHint": True}, "tools": ["read"]}, {})
    assert other.asks_hints
    assert not other.needs_hints(DELETE)


def test_conditions() -> None:
    vetting = entries({"when": "size(request.mcp.params.arguments) > 1"})
    assert found(vetting, question=asked({"a": 1})) is None
    assert found(vetting, question=asked({"a": 1, "b": 2})) == 120
    claims = entries({"when": 'request.auth.jwt.claims.team != "ops"'})
    assert found(claims, question=asked(principal=Principal("token", "i", "alice", claims={"team": "ops"}))) is None
    assert found(claims, question=asked(principal=Principal("token", "i", "alice", claims={"team": "x"}))) == 120


def test_what_cannot_be_told_is_asked_about() -> None:
    assert found(entries({"when": 'request.auth.jwt.claims.team == "ops"'})) == 120
    assert found(entries({"when": "request.mcp.params.arguments.amount > 100"}), question=asked({"amount": "x"})) == 120
    assert found(entries({"when": "false && size(request.mcp.params) > 1"}), question=asked(most=10)) == 120
