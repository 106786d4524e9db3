"""Virtual servers, held against what servers list."""

from __future__ import annotations

from typing import Any

from mcp_extproc.check import virtual_servers
from mcp_extproc.check.virtual_servers import VirtualReport
from tests.unit.gateway.support import config

LISTED: dict[str, Any] = {
    "a": {"tools": ["read", "write", "drop"], "prompts": ["sum"], "resources": ["file:///x"]},
    "b": {"tools": ["read"], "prompts": [], "resources": []},
}


def kinds(one: dict[str, Any], listed: Any = LISTED, **servers: Any) -> list[tuple[str, str | None]]:
    whole = config(servers or {"a": {}, "b": {}}, virtual_servers={"v": one})
    return [(problem.kind, problem.server) for problem in virtual_servers.problems(whole, listed)]


def test_nothing_is_wrong_with_what_is_there() -> None:
    assert kinds({"servers": {"a": {"tools": ["read", "w*"], "prompts": "all"}, "b": "all"}}) == []
    assert kinds({}) == []


def test_what_matches_nothing() -> None:
    assert kinds({"servers": {"a": {"tools": ["raed", "w*", {"regex": "^x"}], "prompts": ["sum", "s?m"]}}}) == [
        ("selector_matches_nothing", "a"), ("selector_matches_nothing", "a"), ("selector_matches_nothing", "a"),
    ]  # fmt: skip
    one = {"servers": {"a": "all"}, "rename": {"tools": {"a__raed": "see"}, "prompts": {"a__sum": "total"}}}
    assert kinds(one) == [("rename_matches_nothing", "a")]
    [problem] = virtual_servers.problems(config(virtual_servers={"v": one}), LISTED)
    assert problem.text.startswith("virtual_servers.v.rename.tools.a__raed: it lists no such tool")


def test_of_a_server_that_did_not_answer_nothing_is_said() -> None:
    one = {"servers": {"a": {"tools": ["raed"]}, "b": "all"}, "rename": {"tools": {"a__raed": "see"}}}
    assert kinds(one, {"b": LISTED["b"]}) == []


def test_what_a_new_name_hides() -> None:
    one = {"servers": {"a": "all"}, "rename": {"tools": {"read": "write"}}}
    assert kinds(one, a={"prefix": ""}) == [("name_hidden", "a")]


def test_reports_count_what_is_offered() -> None:
    virtual = {
        "v": {"servers": {"a": {"tools": ["read", "w*"]}, "b": "all"}, "rename": {"tools": {"a__read": "see"}}},
        "w": {"host": "w.example", "headers": {"X-Tenant": "acme"}, "servers": {"a": {"prompts": "all"}}},
    }
    whole = config(virtual_servers=virtual, listen={"port": 80})
    assert virtual_servers.reports(whole, LISTED) == [
        VirtualReport("v", "http://localhost:80/mcp/v", {}, 3, 0),
        VirtualReport("w", "http://w.example:80/mcp", {"x-tenant": "acme"}, 0, 1),
    ]
    assert virtual_servers.reports(whole, {})[0].tools == 0
