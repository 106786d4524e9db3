"""The access log's formats: one for ordinary calls, one for all other requests, and the same fields in both."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import NAMESPACE
from mcp_extproc.envoy.message import camel
from mcp_extproc.envoy.render.access_log import FIELDS, access_log
from mcp_extproc.gateway.facts import ORDINARY

ISSUER = {"issuer": "https://login.example", "audiences": ["a"]}


def logs(**more: Any) -> list[Any]:
    document = {"servers": {"a": {"url": "http://a.example/mcp"}}, "log": {"access": "/the/file"}, **more}
    return [each.data(camel) for each in access_log(GatewayConfig.model_validate(document))]


def formats(**more: Any) -> list[dict[str, str]]:
    return [each["typedConfig"]["logFormat"]["jsonFormat"] for each in logs(**more)]


def facts(text: str) -> set[str]:
    return set(re.findall(rf"{NAMESPACE}:([a-z_:]+)", text))


def test_both_write_to_one_file() -> None:
    assert [each["typedConfig"]["path"] for each in logs()] == ["/the/file"] * 2
    assert logs(log={"access": ""}) == []


def test_what_is_no_fact_is_the_same_in_both() -> None:
    ordinary, other = formats()
    assert {name for name in other if ordinary.get(name) != other[name]} == {
        name for name, text in other.items() if facts(text)
    }


def test_ordinary_calls_have_all_their_facts_as_texts() -> None:
    """As values of their own, each of them has Envoy copy all metadata of the request."""
    ordinary, other = formats()
    told = {fact: name for name, text in ordinary.items() for fact in facts(text)}
    assert told.keys() == {*ORDINARY, "flags"}
    for name in told.values():
        assert ordinary[name] == other[name] + "%REQ(:METHOD):0%"
    # An error that a worker saw makes it no ordinary call.
    assert (ordinary["error.type"], facts(other["error.type"])) == ("%RESP(x-mcp-error)%", {"error_reason"})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"authentication": {"oauth": {"issuers": [ISSUER]}}}, {"enduser.id", "mcp.principal.issuer"}),
        ({"virtual_servers": {"v": {"path": "/v", "authentication": {"oauth": {"issuers": [ISSUER]}}}}},
         {"enduser.id", "mcp.principal.issuer", "mcp.endpoint"}),
        ({"virtual_servers": {"v": {"path": "/v"}}}, {"mcp.endpoint"}),
    ],
    ids=["authentication", "of a virtual server", "virtual servers"],
)  # fmt: skip
def test_who_calls_and_where_is_told_where_that_can_be(more: dict[str, Any], told: set[str]) -> None:
    for with_more, without in zip(formats(**more), formats(), strict=True):
        assert with_more.keys() - without.keys() == told
        assert {with_more[name] for name in told} == {FIELDS[name] for name in told}


def matches(rule: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """As Envoy's filter does, whose matcher is asked where the key is there."""
    [(kind, found)] = rule.items()
    if kind != "metadataFilter":
        return {"andFilter": all, "orFilter": any}[kind](matches(each, metadata) for each in found["filters"])
    assert found["matcher"]["filter"] == NAMESPACE
    [path] = found["matcher"]["path"]
    if path["key"] not in metadata:
        return bool(found["matchIfKeyNotFound"])
    [(how, expected)] = found["matcher"]["value"].items()
    return how == "presentMatch" or metadata[path["key"]] is expected


@pytest.mark.parametrize("ordinary", [{}, {"ordinary": True}, {"ordinary": False}], ids=str)
@pytest.mark.parametrize("error", [{}, {"error_reason": "tool_error"}], ids=str)
def test_each_request_has_one_line(ordinary: dict[str, bool], error: dict[str, str]) -> None:
    by = [matches(each["filter"], ordinary | error) for each in logs()]
    assert by == ([True, False] if ordinary.get("ordinary") and not error else [False, True])
