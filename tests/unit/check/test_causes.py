"""Why servers could not be asked, by what Envoy has counted. With a real one: tests/e2e/test_check.py."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mcp_extproc.check.causes import causes
from mcp_extproc.gateway.legs import Failed
from mcp_extproc.upstreams.probe import Survey

TOKEN = "cluster.mcp_token/a"
AT_CLIENT = "it answers HTTP 401: are client_id and client_secret right, and `basic`?"


@pytest.mark.parametrize(
    ("reason", "counted", "cause"),
    [
        ("connect", {"cluster.mcp/a.upstream_cx_connect_fail": "1"}, "nothing listens there"),
        ("connect", {f"{TOKEN}.upstream_cx_connect_fail": "1"}, None),
        ("protocol", {"cluster.mcp/a.upstream_cx_connect_fail": "1"}, None),
        # Envoy's own 503 is counted as an answer, too.
        ("credentials_unavailable", {f"{TOKEN}.upstream_cx_connect_fail": "4", f"{TOKEN}.upstream_rq_5xx": "4"},
         "nothing listens there"),
        ("credentials_unavailable", {f"{TOKEN}.upstream_rq_401": "2", f"{TOKEN}.upstream_rq_4xx": "2"}, AT_CLIENT),
        ("credentials_unavailable", {f"{TOKEN}.upstream_rq_4xx": "2"}, "it answers with an error (HTTP 4xx)"),
        ("credentials_unavailable", {f"{TOKEN}.upstream_rq_401": "0"}, None),
    ],
)  # fmt: skip
async def test_the_cause_is_what_envoy_has_counted(reason: str, counted: Mapping[str, str], cause: str | None) -> None:
    async def stats(_: str) -> Mapping[str, str]:
        return counted

    found = await causes(stats, [Survey("a", Failed("a", reason, "x"), {})])
    assert found.get("a") == cause


async def test_nothing_is_counted_where_nothing_is_to_be_explained() -> None:
    async def stats(_: str) -> Mapping[str, str]:
        raise AssertionError

    assert await causes(stats, [Survey("a", Failed("a", "protocol", "x"), {})]) == {}
