"""Verdicts, rules and kinds of errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import ERROR_HEADER
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.authentication import oauth, proven
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.telemetry.exchange import CODES, OWN_POLICIES, Exchange
from tests.unit.telemetry.support import CALL

GOLDEN = Path(__file__).parents[2] / "envoy" / "golden"
TOKENS = {"token_endpoint": "https://login.example.com/token", "client_id": "gateway", "client_secret": "hush"}
WITH_TOKENS = {"servers": {"a": {"url": "http://a", "credentials": {"client_credentials": TOKENS}}}}


def but(**changes: Any) -> Exchange:
    return msgspec.structs.replace(CALL, **changes)


@pytest.mark.parametrize(
    ("changes", "verdict", "rule", "error_type"),
    [
        ({}, "allow", None, None),
        ({"decided_by": "readers"}, "allow", "readers", None),
        ({"reason": "tool_error"}, "allow", None, "tool_error"),
        ({"reason": "server_error", "code": -32000}, "allow", None, "-32000"),
        ({"reason": "not_authorized", "code": -32600, "decided_by": "own-tenant"}, "deny", "own-tenant", "-32600"),
        ({"reason": "unknown_tool", "code": -32602, "decided_by": "no-writes"}, "deny", "no-writes", "-32602"),
        ({"reason": "unknown_tool", "code": -32602}, "error", None, "-32602"),
        ({"reason": "consent_declined", "code": -32600}, "deny", "vetting", "-32600"),
        ({"reason": "consent_unavailable", "code": -32600}, "error", None, "-32600"),
        ({"reason": "parse_error", "code": -32700}, "error", None, "-32700"),
        ({"reason": "server_failed"}, "error", None, "-32603"),
        ({"reason": "no_worker", "status": 503}, "error", None, "-32603"),
        (
            {"reason": "denied", "details": "rbac_access_denied_matched_policy[no-writes]", "decided_by": "readers"},
            "deny", "rbac:no-writes", "-32600",
        ),
        ({"reason": "denied", "details": "ext_authz_denied"}, "deny", "ext_authz", "-32600"),
        ({"reason": "rate_limited", "details": "local_rate_limited"}, "deny", "rate_limit", "-32603"),
        ({"reason": "rate_limited", "details": "request_rate_limited"}, "deny", "rate_limit", "-32603"),
        ({"reason": "invalid_token", "details": "jwt_authn_access_denied{Jwt_is_expired}"}, "deny", "jwt_authn", "-32600"),
        ({"reason": "invalid_api_key", "details": "unkonwn_api_key"}, "deny", "invalid_api_key", "-32600"),
        (
            {"reason": "authentication_required", "details": "rbac_access_denied_matched_policy[mcp_nobody]"},
            "deny", "authentication_required", "-32600",
        ),
        (
            {"reason": "invalid_token", "details": "rbac_access_denied_matched_policy[mcp_no_principal]"},
            "deny", "invalid_token", "-32600",
        ),
        ({"status": 502}, "error", None, "502"),
        ({"status": 0}, "allow", None, None),
        ({"status": 0, "upstream": None}, "error", None, None),
    ],
)  # fmt: skip
def test_what_was_decided(changes: dict[str, Any], verdict: str, rule: str | None, error_type: str | None) -> None:
    found = but(**changes)
    assert (found.verdict, found.rule, found.error_type) == (verdict, rule, error_type)


@pytest.mark.parametrize(
    ("changes", "is_request"),
    [
        ({}, True),
        ({"method": "notifications/initialized", "id": None}, True),
        ({"method": None}, False),
        ({"method": None, "status": 403}, True),
        ({"method": None, "reason": "parse_error"}, True),
        ({"method": "__jsonrpc_response"}, False),
        ({"method": "__jsonrpc_response", "reason": "unknown_method"}, True),
        ({"method": "_made_up"}, True),
        ({"method": "_made_up", "reason": "unknown_method"}, True),
        ({"http_method": "GET", "method": None}, False),
        ({"http_method": "DELETE", "method": None}, False),
        ({"batch": 3, "method": None}, False),
        ({"batch": 3, "method": None, "reason": "invalid_batch"}, True),
    ],
)
def test_what_a_request_is(changes: dict[str, Any], is_request: bool) -> None:
    assert but(**changes).is_request is is_request


def test_whoever_gets_401_or_403_was_denied() -> None:
    """By the table of errors in docs/protocol.md, which others hold against the code."""
    text = (Path(__file__).parents[3] / "docs/protocol.md").read_text()
    words = re.findall(r"^\| 40[13] \| -\d+ \| `(\w+)` \|", text, re.MULTILINE)
    assert len(words) >= 5
    assert [word for word in (*words, "not_authorized") if but(reason=word).verdict != "deny"] == []


def test_policies_of_the_gateways_own_are_those_that_it_renders() -> None:
    assert {proven.NOBODY, oauth.NO_PRINCIPAL, oauth.ALGORITHM} == OWN_POLICIES


def test_codes_are_those_that_envoy_answers_with() -> None:
    """In all configurations that are rendered for review, and one whose servers want tokens, which none of these has."""
    found: dict[str, int] = {}
    rendered = to_json(bootstrap(GatewayConfig.model_validate(WITH_TOKENS), Layout.in_directory(Path("/run"))))
    for text in (rendered, *(path.read_text() for path in GOLDEN.glob("*.json"))):
        found |= dict(answers(json.loads(text)))
    assert found == CODES


def answers(data: Any) -> Iterator[tuple[str, int]]:
    """Errors in a configuration: the word that each is marked with, and the code in its body."""
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from answers(value)
        words = [word for item in value if (word := marked_with(item))] if isinstance(value, list) else []
        if words:
            code = re.search(r"code\W+(-\d+)", json.dumps(data))
            assert code is not None, data
            yield words[0], int(code[1])


def marked_with(item: Any) -> str | None:
    header = item.get("header") if isinstance(item, dict) else None
    return header["value"] if isinstance(header, dict) and header.get("key") == ERROR_HEADER else None
