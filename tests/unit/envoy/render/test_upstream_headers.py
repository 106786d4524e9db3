"""Which headers of servers pass, as RE2 reads the expressions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import FAILURE_HEADER
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.envoy.render.upstream_headers import PASSED, foreign, foreign_in_one
from mcp_extproc.gateway import headers
from tests.envoy.golden import CASES

EXACT = [name for name, _ in PASSED]

FOREIGN = [re2.compile(expression) for expression in foreign()]
IN_ONE = re2.compile(foreign_in_one())

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)


def is_foreign(name: str) -> bool:
    """As all layouts say it."""
    found = any(expression.fullmatch(name) for expression in FOREIGN)
    assert found is bool(IN_ONE.fullmatch(name))
    return found


@pytest.mark.parametrize(
    "name",
    [
        ":status", "content-type", "content-length", "content-encoding", "content-language", "content-location",
        "cache-control", "vary", "x-accel-buffering", "mcp-session-id", "mcp-protocol-version", "location", FAILURE_HEADER,
    ],
)  # fmt: skip
def test_what_passes(name: str) -> None:
    assert not is_foreign(name)


@pytest.mark.parametrize(
    "name",
    [
        "content-security-policy", "content-disposition", "x-accel-redirect", "x-mcp-server", "mcp-name", "link",
        "clear-site-data", "cross-origin-opener-policy", "date", "server", "set-cookie", "a", "~", "!",
        "x-mcp-u", "x-mcp-upstream", "x-mcp-upstream-failures", "mcp-param-x", "mcp-sneaky", "mcp-session", "cache-status",
        "content-transfer-encoding", "content-type2", "content-", "content-l", "local", "x-", "c", "var",
    ],
)  # fmt: skip
def test_what_does_not(name: str) -> None:
    assert is_foreign(name)


def test_what_asks_for_a_login_passes_where_it_may() -> None:
    """Not where the gateway's own challenge has its place."""
    assert is_foreign("www-authenticate")
    with_it = [re2.compile(expression) for expression in foreign(challenges=True)]
    assert max(expression.programsize for expression in with_it) <= 100
    in_one = re2.compile(foreign_in_one(challenges=True))
    for name in (*EXACT, "www-authenticate"):
        assert not any(expression.fullmatch(name) for expression in (*with_it, in_one)), name
    for name in ("www-authenticate-x", "www-auth", "w", "warning", "set-cookie", "link"):
        assert any(expression.fullmatch(name) for expression in with_it), name
        assert in_one.fullmatch(name), name


@given(
    st.one_of(
        NAMES,
        st.tuples(st.sampled_from(EXACT), st.integers(0, 22), st.one_of(st.just(""), NAMES)).map(
            lambda drawn: (drawn[0][: drawn[1]] + drawn[2]) or "x"
        ),
    )
)
def test_names_pass_whole(name: str) -> None:
    assert is_foreign(name) is not (name in EXACT or name.startswith(":"))


def test_envoy_takes_it() -> None:
    """By default it refuses a program of more than 100 instructions."""
    assert max(expression.programsize for expression in FOREIGN) <= 100


def test_a_whole_bootstrap_raises_that() -> None:
    config, layout = CASES["one-server"]
    rendered = orjson.loads(to_json(bootstrap(GatewayConfig.model_validate(config), layout)))
    [level] = _found(rendered["layeredRuntime"], "re2.max_program_size.error_level")
    assert 100 < re2.compile(foreign_in_one(challenges=True)).programsize <= level
    assert len(_found(clusters("one-server")[0], "removeOnMatch")) == 3


def clusters(case: str) -> list[dict[str, Any]]:
    sections, layout = CASES[case]
    rendered = orjson.loads(to_json(bootstrap(GatewayConfig.model_validate(sections), layout)))
    found: list[dict[str, Any]] = rendered["staticResources"]["clusters"]
    return [cluster for cluster in found if cluster["name"].startswith("mcp/")]


@pytest.mark.parametrize("case", CASES)
def test_each_server_has_them(case: str) -> None:
    """But those behind the bridge, which writes all answers itself."""
    for cluster in clusters(case):
        [options] = cluster["typedExtensionProtocolOptions"].values()
        names = [item["name"] for item in options.get("httpFilters", ())]
        if "bridge.sock" not in str(cluster["loadAssignment"]["endpoints"][0]):
            assert names[-2:] == ["mcp_headers", "envoy.filters.http.upstream_codec"]


def test_what_workers_do_not_see_is_passed_or_removed() -> None:
    config, layout = CASES["several-workers"]
    rendered = to_json(bootstrap(GatewayConfig.model_validate(config), layout))
    hidden = {name for rules in _found(orjson.loads(rendered), "disallowedHeaders") for name in _found(rules, "exact")}
    assert hidden
    assert hidden - headers.PASSED - set(headers.left_to_routes(())) <= {"x-mcp-session-key"}


def test_what_is_left_to_routes_is_removed_by_them_or_by_the_worker() -> None:
    """A header of such a name that is configured for a server is no client's: the route leaves it, and the worker sets it."""
    left = headers.left_to_routes(("Date",))
    assert set(headers.left_to_routes(())) - set(left) == {"date"}
    names = ("accept", "date", "x-forwarded-for")
    assert headers.removed(names, ("accept",), left) == ("date",)
    assert headers.removed(names, ("accept", "date"), left) == ()
    config, layout = CASES["one-server"]
    [server] = config["servers"].values()
    both = {"one": server, "other": server | {"headers": {"Date": "today", "X-Forwarded-For": "nobody"}}}
    rendered = orjson.loads(to_json(bootstrap(GatewayConfig.model_validate(config | {"servers": both}), layout)))
    gone = {
        route["name"]: set(route["requestHeadersToRemove"])
        for found in _found(rendered, "routes")
        for route in found
        if "requestHeadersToRemove" in route and "name" in route
        if route.get("name") in ("mcp/one", "mcp/other")
    }
    assert gone["mcp/one"] - gone["mcp/other"] == {"date", "x-forwarded-for"}
    assert gone["mcp/other"] == {"x-mcp-server", *headers.left_to_routes(("date", "x-forwarded-for"))}


def _found(value: Any, key: str) -> list[Any]:
    match value:
        case dict():
            here = [value[key]] if key in value else []
            return here + [one for item in value.values() for one in _found(item, key)]
        case list():
            return [one for item in value for one in _found(item, key)]
    return []
