"""What is hardly meant as it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.config import loads

SERVERS = {
    "github": {"url": "http://127.0.0.1:1/mcp"},
    "dates": {"url": "http://127.0.0.1:2/mcp", "prefix": "d"},
    "plain": {"url": "http://127.0.0.1:3/mcp", "prefix": ""},
}
ALLOW = {"action": "allow"}


def warnings(**sections: Any) -> list[str]:
    return list(loads(json.dumps({"servers": SERVERS, **sections}), "gateway.yaml", {}).warnings)


@pytest.mark.parametrize(
    ("sections", "warning"),
    [
        (
            {"authorization": {"rules": [{**ALLOW, "tools": ["a", "github__a"]}]}},
            (
                "authorization.rules[0].tools[1] begins with the prefix of github: names here are the server's own,"
                " without github__"
            ),
        ),
        (
            {"authorization": {"rules": [{**ALLOW, "prompts": [{"regex": "^d__"}]}]}},
            "authorization.rules[0].prompts[0] begins with the prefix of dates: names here are the server's own, without d__",
        ),
        (
            {"vetting": [{"servers": ["dates"], "tools": ["d__*"]}]},
            "vetting[0].tools[0] begins with the prefix of dates: names here are the server's own, without d__",
        ),
        (
            {"virtual_servers": {"v": {"servers": {"dates": {"tools": [{"exact": "d__a"}]}}}}},
            (
                "virtual_servers.v.servers.dates.tools[0] begins with the prefix of dates: names here are the server's own,"
                " without d__"
            ),
        ),
        (
            {"virtual_servers": {"v": {"servers": {"dates": {}}}}},
            "virtual_servers.v offers nothing: name servers, each with `all` or with tools, prompts or resources",
        ),
        (
            {"authorization": {"rules": [{**ALLOW, "tools": ["a"]}, {**ALLOW, "name": "all"}, {"action": "deny"}]}},
            "authorization.rules[2] never decides: rules[1] before it matches everything",
        ),
        (
            {
                "virtual_servers": {
                    "v": {"servers": {"dates": "all"}, "authorization": {"rules": [ALLOW, {**ALLOW, "tools": ["a"]}]}}
                }
            },
            "virtual_servers.v.authorization.rules[1] never decides: rules[0] before it matches everything",
        ),
    ],
)
def test_warnings(sections: dict[str, Any], warning: str) -> None:
    assert warnings(**sections) == [warning]


@pytest.mark.parametrize(
    "sections",
    [
        # The prefix of a server that the rule is not about.
        {"authorization": {"rules": [{**ALLOW, "servers": ["dates"], "tools": ["github__a"]}]}},
        # A server's own name may well begin so.
        {"separator": "_", "authorization": {"rules": [{**ALLOW, "tools": ["github_a"]}]}},
        {
            "servers": {"a": {**SERVERS["github"], "separator": "-"}},
            "authorization": {"rules": [{**ALLOW, "tools": ["a__b", "a-b"]}]},
        },
        {"authorization": {"rules": [{"action": "deny", "tools": ["a"]}, ALLOW]}},
        {"virtual_servers": {"v": {"servers": {"dates": {"resources": ["d__a"]}}}}},
    ],
)
def test_no_warnings(sections: dict[str, Any]) -> None:
    assert warnings(**sections) == []
