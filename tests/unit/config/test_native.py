from __future__ import annotations

import pytest

from mcp_extproc.config import GatewayConfig, Server, loads
from tests.unit.config.support import error_of, native, unplaced_error_of

A = "servers: {a: {url: http://a/mcp%s}}\n"


def test_variables_take_part_before_validation() -> None:
    text = (
        "servers: {a: {url: 'http://${HOST}/', tools: {exclude: ['${TOOL}']}}}\n"
        "listen: {port: '${PORT:-1}'}\nlimits: {list_items: '${N}'}"
    )
    config = native(text, {"HOST": "h:1", "TOOL": "drop", "N": "7"})
    assert config.servers["a"].addresses == (("h", 1),)
    assert config.servers["a"].tools.exclude == ("drop",)
    assert (config.listen.port, config.limits.list_items) == (1, 7)


def test_a_variable_can_not_change_the_structure() -> None:
    config = native("servers: {a: {url: http://a/, headers: {X: '${V}'}}}", {"V": "a: b, # ] }"})
    assert config.servers["a"].headers["X"].get_secret_value() == "a: b, # ] }"


def test_unset_variables_are_all_named() -> None:
    text = "servers:\n  a:\n    url: ${A_URL}\n    headers: {X: '${A_KEY}'}\n"
    assert error_of(text) == (
        "gateway.yaml: 2 problems\n"
        "  line 3, servers.a.url: the environment variable A_URL is not set:"
        " set it, or give a default with ${A_URL:-default}\n"
        "  line 4, servers.a.headers.X: the environment variable A_KEY is not set:"
        " set it, or give a default with ${A_KEY:-default}"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (A % ", header: {}", "servers.a.header: unknown key, did you mean headers?"),
        (A % ", URL: x", "servers.a.URL: unknown key, did you mean url?"),
        (A % ", tools: {includes: [x]}", "servers.a.tools.includes: unknown key, did you mean include?"),
        (A % ", tools: {include_regex: [x]}", "servers.a.tools.include_regex: unknown key, did you mean includeRegex?"),
        (
            A % ", zzz: 1",
            f"servers.a.zzz: unknown key, expected one of: {', '.join(Server.model_fields)}",
        ),
        (A % "" + "listen: {prot: 1}", "listen.prot: unknown key, did you mean port?"),
        (A % "" + "server: {}", "server: unknown key, did you mean servers?"),
        (A % "" + "port: 1", "port: unknown key here, it belongs under listen"),
        (A % "" + "timeout: 1s", "timeout: unknown key here, it belongs under servers.<name>"),
        (
            A % "" + '"q\\nq": 1',
            f'"q\\nq": unknown key, expected one of: {", ".join(GatewayConfig.model_fields)}',
        ),
    ],
)
def test_unknown_keys(text: str, problem: str) -> None:
    assert unplaced_error_of(text) == f"gateway.yaml: {problem}"


def test_every_problem_in_one_message() -> None:
    text = "servers:\n  a.b: {url: ftp://x, timeout: soon}\nlisten: {port: x}\n"
    assert error_of(text) == (
        "gateway.yaml: 3 problems\n"
        '  line 2, servers["a.b"].url: expected a URL that starts with http:// or https://\n'
        '  line 2, servers["a.b"].timeout: expected a duration such as 250ms, 30s or 5m\n'
        "  line 3, listen.port: expected a whole number"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # An element of a list has the line that it begins on, and so has what is missing in it.
        (
            "servers:\n  a: {url: http://a/mcp}\nauthorization:\n  rules:\n    - action: allow\n    - name: x\n",
            "line 6, authorization.rules[1].action: required, but missing",
        ),
        # What is written once for several places has the line on which it is written.
        (
            "servers:\n  a: &a\n    url: http://a/mcp\n    timeout: x\n  b: *a\n",
            "line 4, servers.b.timeout: expected a duration such as 250ms, 30s or 5m",
        ),
        (
            '{"servers": {\n "a": {\n  "url": 1}}}',
            "line 3, servers.a.url: expected text (numbers, true and false in quotes)",
        ),
        ("servers: {a: {url: 1}}", "servers.a.url: expected text (numbers, true and false in quotes)"),
    ],
)
def test_lines(text: str, problem: str) -> None:
    assert problem in error_of(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("authentication:\n  # oauth: {}", "line 2, authentication"),
        ("authorization:", "line 2, authorization"),
        ("listen:\n  tls:", "line 3, listen.tls"),
        (
            "virtual_servers:\n  v:\n    servers: {a: all}\n    authentication:",
            "line 5, virtual_servers.v.authentication",
        ),
        (
            "authorization:\n  rules:\n    - action: deny\n      principals:",
            "line 5, authorization.rules[0].principals",
        ),
    ],
)
def test_a_section_without_keys_is_no_section_that_is_left_out(text: str, place: str) -> None:
    assert error_of(A % "" + text) == f"gateway.yaml: {place}: is empty: write its keys, or leave it out"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "authentication: {oauth: {resource: 'https://a.b/', issuers: [{issuer: x}]}}",
            "authentication.oauth.issuers[0].issuer: expected a URL such as https://idp.example.com",
        ),
        (
            "authentication: {oauth: {issuers: [{issuer: https://a.b/.well-known/openid-configuration}]}}",
            (
                "authentication.oauth.issuers[0].issuer: expected an issuer identifier, what stands in the claim `iss`: this"
                " is the URL of its metadata"
            ),
        ),
        ("vetting: [{timeout: 2h}]", "vetting[0].timeout: expected a duration of at most 1h"),
    ],
)
def test_one_problem_and_no_other_that_follows_from_it(text: str, problem: str) -> None:
    assert unplaced_error_of(A % "" + text) == f"gateway.yaml: {problem}"


def test_warnings_have_lines() -> None:
    oauth = "  oauth:\n    issuers:\n      - issuer: https://idp.example\n"
    text = f"servers:\n  a: {{url: http://a/}}\nauthentication:\n  public_url: https://a.example\n{oauth}"
    [warning] = loads(text, "gateway.yaml", {}).warnings
    assert warning.startswith("line 7, authentication.oauth.issuers[0] has no audiences")


def test_a_flood_of_problems_is_cut() -> None:
    lines = error_of("servers: {}\n" + "".join(f"zzz{number}: 1\n" for number in range(50))).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("gateway.yaml: 51 problems", "  ... and 31 more", 22)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: {}", "servers: required, but missing"),
        ("servers:", "servers: expected a mapping (key: value)"),
        ("servers: {}", "servers: name at least one server"),
        ("servers: {a: }", "servers.a: expected a mapping (key: value)"),
        ("servers: {a: http://a}", "servers.a: expected a mapping (key: value)"),
        ("servers: [{url: http://a}]", "servers: expected a mapping (key: value)"),
    ],
)
def test_servers_of_another_shape(text: str, problem: str) -> None:
    assert error_of(text) == f"gateway.yaml: {problem}"
