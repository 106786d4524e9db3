from __future__ import annotations

import pytest

from mcp_extproc.config import GatewayConfig, Server
from tests.unit.config.support import error_of, native

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
        "  servers.a.url: the environment variable A_URL is not set: set it, or give a default with ${A_URL:-default}\n"
        "  servers.a.headers.X: the environment variable A_KEY is not set: set it, or give a default with ${A_KEY:-default}"
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
    assert error_of(text) == f"gateway.yaml: {problem}"


def test_every_problem_in_one_message() -> None:
    text = "servers:\n  a.b: {url: ftp://x, timeout: soon}\nlisten: {port: x}\n"
    assert error_of(text) == (
        "gateway.yaml: 3 problems\n"
        '  servers["a.b"].url: expected a URL that starts with http:// or https://\n'
        '  servers["a.b"].timeout: expected a duration such as 250ms, 30s or 5m\n'
        "  listen.port: expected a whole number"
    )


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
