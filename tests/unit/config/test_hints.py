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
        (
            {
                "virtual_servers": {
                    "grab": {"servers": {"dates": "all"}, "hosts": ["other.example.com", "*.example.com"]},
                    "sec": {"servers": {"dates": "all"}, "hosts": ["admin.example.org", "admin.example.com"]},
                }
            },
            (
                "virtual_servers.sec.hosts[1]: requests to admin.example.com are those of grab (*.example.com),"
                " which stands first: put this one in front of it, or leave the host out of one of them"
            ),
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
        {
            "virtual_servers": {
                "tenant": {"servers": {"dates": "all"}, "host": "*.example", "headers": {"x-a": "b"}},
                "path": {"servers": {"dates": "all"}, "host": "*.example", "path": "/other"},
                "sec": {"servers": {"dates": "all"}, "hosts": ["admin.example", "b.example"]},
                "rest": {"servers": {"dates": "all"}, "host": "*.example"},
            }
        },
    ],
)
def test_no_warnings(sections: dict[str, Any]) -> None:
    assert warnings(**sections) == []


A, B = ({"issuer": f"https://{name}.example", "audiences": ["x"]} for name in "ab")
KEYS = {"keys": {"alice": "k" * 32}}
USER = {"claim": "sub", "header": "x-user"}
EMAIL = {"claim": "email", "header": "x-email"}
ISS = {"claim": "iss", "header": "x-issuer"}
ONE_PLACE = " have these names assigned in one place"
SECOND = " give it their `iss` in a second header, or" + ONE_PLACE


def about_names(authentication: Any, *claims: Any, **sections: Any) -> list[str]:
    servers = {"a": {"url": "http://127.0.0.1:1/mcp", "credentials": {"claims": claims}}}
    return warnings(**{"servers": servers, "authentication": authentication, **sections})


@pytest.mark.parametrize(
    ("authentication", "claims", "warning"),
    [
        ({"oauth": {"issuers": [A, B]}}, [USER], "sub by https://a.example and by https://b.example{}" + SECOND),
        (
            {"oauth": {"issuers": [A]}, "api_keys": KEYS},
            [USER, EMAIL],
            "sub by https://a.example and by authentication.api_keys{}" + SECOND,
        ),
        (
            {"oauth": {"issuers": [A, B], "principal_claim": "email"}, "api_keys": KEYS},
            [EMAIL],
            "email by https://a.example and by https://b.example{}" + SECOND,
        ),
        (
            {"oauth": {"issuers": [A]}, "api_keys": KEYS, "external": {"grpc": "a:1", "principal_header": "x-who"}},
            [USER, ISS],
            "sub by authentication.api_keys and by authentication.external{}" + ONE_PLACE,
        ),
        (
            {"existing": {"subject": ["a", "sub"], "issuer": ["a", "iss"], "claims": ["a", "all"]}},
            [USER],
            (
                "sub by one issuer in authentication.existing.issuer and by another in authentication.existing.issuer{}"
                + SECOND
            ),
        ),
        (
            {"existing": {"subject": ["a", "sub"], "issuer": ["a", "iss"]}},
            [USER, ISS],
            "sub by one issuer in authentication.existing.issuer and by another in authentication.existing.issuer{}"
            + ONE_PLACE,
        ),
    ],
)
def test_one_name_for_several_callers(authentication: Any, claims: list[Any], warning: str) -> None:
    start = "servers.a.credentials.claims[0]: who has the same "
    expected = start + warning.format(" is one user for the server:")
    assert about_names(authentication, *claims) == [expected]


def test_keys_of_two_endpoints_are_those_of_two_places() -> None:
    virtual = {"v": {"servers": {"a": "all"}, "authentication": {"api_keys": KEYS}}}
    [found] = about_names({"api_keys": KEYS}, USER, virtual_servers=virtual)
    assert "authentication.api_keys and by virtual_servers.v.authentication.api_keys is one user" in found


@pytest.mark.parametrize(
    ("authentication", "claims"),
    [
        ({"oauth": {"issuers": [A]}, "anonymous": True}, [USER]),
        ({"oauth": {"issuers": [A, B]}}, [USER, ISS]),
        ({"oauth": {"issuers": [A]}, "api_keys": KEYS}, [USER, ISS]),
        ({"oauth": {"issuers": [A, B]}, "api_keys": KEYS}, [{"claim": "tenant", "header": "x-tenant"}]),
        ({"oauth": {"issuers": [A, B]}, "api_keys": KEYS}, []),
    ],
)
def test_names_that_are_those_of_one_caller(authentication: Any, claims: list[Any]) -> None:
    assert about_names(authentication, *claims) == []
