"""What ``check`` says of each server. How servers are asked: tests/e2e/test_check.py."""

from __future__ import annotations

import msgspec
import pytest

from mcp_extproc.check.report import report
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.legs import STARTING, Failed, Listed, Opened
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.upstreams.probe import NOBODY_CALLS, Survey

CONFIG = GatewayConfig.model_validate({
    "servers": {"a": {"url": "http://localhost/a"}, "b": {"url": "http://localhost/b", "tools": {"include": ["x"]}}}
})  # fmt: skip


def test_the_report_of_servers_that_fail() -> None:
    session = UpstreamSession("2025-06-18", None, frozenset({"tools", "prompts"}))
    surveyed = [
        Survey("a", Failed("a", "connect", "is unreachable (X)"), {}),
        Survey("b", Opened("b", session, None), {
            "tools": Listed("b", [], "has more than 100 pages"), "prompts": Failed("b", "error", "answered an error"),
        }),
    ]  # fmt: skip
    told = report(CONFIG, surveyed, {"a": "nobody listens there"})
    a, b = told.servers
    assert (a.address, a.version, a.tools) == ("localhost:80", None, None)
    assert (b.version, b.tools, b.prompts, b.resources) == ("2025-06-18", 0, None, 0)
    assert [(problem.kind, problem.server) for problem in told.problems] == [
        ("unreachable", "a"), ("list_cut_short", "b"), ("list_failed", "b"),
    ]  # fmt: skip
    assert told.problems[0].text == "localhost:80 is unreachable (X): nobody listens there"
    assert [server.state for server in told.servers] == ["failed", "ready"]


def test_how_many_tools_clients_see() -> None:
    session = UpstreamSession("2025-06-18", None, frozenset({"tools"}))
    tools = [msgspec.Raw(b'{"name":"%s"}' % name) for name in (b"x", b"y", b"z")]
    surveyed = [Survey("b", Opened("b", session, None), {"tools": Listed("b", tools)})]
    [b] = report(CONFIG, surveyed, {}).servers
    assert (b.tools, b.tools_offered) == (3, 1)


@pytest.mark.parametrize("what", ["whole", "cut", "by caller"])
def test_what_is_not_known_whole_may_have_more(what: str) -> None:
    """No rule is said to match nothing for it."""
    server = {
        "url": "http://localhost/a",
        **({"credentials": {"forward": [{"name": "x-token"}]}} if what == "by caller" else {}),
    }
    rules = {"default": "allow", "rules": [{"action": "deny", "tools": ["delet"]}]}
    config = GatewayConfig.model_validate({"servers": {"a": server}, "authorization": rules})
    listed = Listed("a", [msgspec.Raw(b'{"name":"delete"}')], "has more than 100 pages" if what == "cut" else None)
    session = UpstreamSession("2025-06-18", None, frozenset({"tools"}))
    kinds = {
        problem.kind
        for problem in report(config, [Survey("a", Opened("a", session, None), {"tools": listed})], {}).problems
    }
    assert ("rule_matches_nothing" in kinds) is (what == "whole")


def test_a_server_that_is_still_starting_has_not_failed() -> None:
    starting = [Survey("a", Failed("a", STARTING, "is still starting, since 120 s"), {})]
    told = report(CONFIG, starting, {})
    assert [server.state for server in told.servers] == ["starting"]
    assert [(problem.kind, problem.text) for problem in told.problems] == [
        ("starting", "localhost:80 is still starting, since 120 s")
    ]


def test_a_server_that_answers_callers_alone_is_no_problem() -> None:
    """Or `run --check` would never serve one."""
    told = report(CONFIG, [Survey("a", Failed("a", NOBODY_CALLS, "wants what it gets of callers"), {})], {})
    assert [server.state for server in told.servers] == ["unknown"]
    assert told.problems == []
    assert [(note.kind, note.text) for note in told.notes] == [
        ("unknown", "localhost:80 wants what it gets of callers")
    ]
