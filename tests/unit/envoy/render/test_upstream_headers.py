"""Which headers of servers pass: names that begin in one of a few ways, as RE2 reads them."""

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
from mcp_extproc.envoy.render.upstream_headers import PASSED, foreign
from mcp_extproc.gateway import headers
from tests.envoy.golden import CASES

FOREIGN = re2.compile(foreign())

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)


@pytest.mark.parametrize(
    "name",
    [
        ":status", "content-type", "content-length", "content-encoding", "cache-control", "vary", "x-accel-buffering",
        "mcp-session-id", "mcp-protocol-version", "location", FAILURE_HEADER,
    ],
)  # fmt: skip
def test_what_passes(name: str) -> None:
    assert FOREIGN.fullmatch(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "content-security-policy", "content-disposition", "x-accel-redirect", "x-mcp-server", "mcp-name", "link",
        "clear-site-data", "cross-origin-opener-policy", "date", "server", "set-cookie", "a", "~", "!",
    ],
)  # fmt: skip
def test_what_does_not(name: str) -> None:
    assert FOREIGN.fullmatch(name)


@given(
    st.one_of(NAMES, st.sampled_from(PASSED).flatmap(lambda beginning: NAMES.map(lambda rest: beginning[:-1] + rest)))
)
def test_the_beginning_alone_counts(name: str) -> None:
    """But for names that are shorter than that."""
    passes = any(name.startswith(beginning) or beginning.startswith(name) for beginning in PASSED)
    assert bool(FOREIGN.fullmatch(name)) is not passes


def test_envoy_takes_it() -> None:
    """By default it refuses a program of more than 100 instructions."""
    assert FOREIGN.programsize <= 100


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
    assert hidden - headers.PASSED - set(headers.UNSEEN) <= {"x-mcp-session-key"}
    assert set(headers.UNSEEN) <= set(headers.removed(("accept",), ()))
    assert "server" not in headers.removed((), ("server",))


def _found(value: Any, key: str) -> list[Any]:
    match value:
        case dict():
            here = [value[key]] if key in value else []
            return here + [one for item in value.values() for one in _found(item, key)]
        case list():
            return [one for item in value for one in _found(item, key)]
    return []
