"""Envoy's own filters, configured for a comparison that is fair."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from bench import native
from bench.gateway import policy
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.resilience import ListenLimits
from mcp_extproc.contract import NAMESPACE
from mcp_extproc.envoy.message import camel
from mcp_extproc.envoy.render.access_log import access_log


def listener(bootstrap: Bootstrap) -> Any:
    [listener] = json.loads(bootstrap.to_json())["staticResources"]["listeners"]
    return listener


def manager_of(bootstrap: Bootstrap) -> Any:
    return listener(bootstrap)["filterChains"][0]["filters"][0]["typedConfig"]


def manager(**more: str) -> Any:
    """The configuration of the listener's connection manager."""
    return manager_of(native.routing(1, 2, ["one"], **more))


def test_an_access_log_has_the_fields_of_this_gateways() -> None:
    [log] = manager(access_log="/the/file")["accessLog"]
    assert log["typedConfig"]["path"] == "/the/file"
    assert log["typedConfig"]["logFormat"] == {"jsonFormat": native.FIELDS_OF_ROUTER, "omitEmptyValues": True}
    servers = {name: {"url": "http://127.0.0.1:1/mcp"} for name in ("s1", "s2", "s3")}
    ours = access_log(GatewayConfig.model_validate({"servers": servers, "log": {"access": "/the/file"}}))
    assert list(native.FIELDS_OF_ROUTER) == list(ours[-1].data(camel)["typedConfig"]["logFormat"]["jsonFormat"])


def test_none_of_them_reads_metadata_that_the_mcp_filter_does_not_write() -> None:
    """With its default, which is in docs/policies.md; `mcp_proxy` would leave them all empty."""
    assert not [name for name, format in native.FIELDS_OF_ROUTER.items() if f"{NAMESPACE}:" in format]
    assert "envoy.filters.http.mcp:method" in native.FIELDS_OF_ROUTER["mcp.method.name"]


def test_none_is_written_unless_asked_for() -> None:
    assert "accessLog" not in manager()


@pytest.mark.parametrize(
    "render",
    [native.plain, native.parsing, native.routing, native.strict, native.judged],
    ids=lambda each: each.__name__,
)
def test_connections_have_the_buffer_that_this_gateways_have(render: Callable[..., Bootstrap]) -> None:
    """Envoy's default, which is this gateway's (`limits.per_connection_buffer_limit_bytes`)."""
    assert "perConnectionBufferLimitBytes" not in listener(render(1, 2, ["one"]))
    assert ListenLimits().per_connection_buffer_limit_bytes is None


def test_duplicate_keys_are_refused_as_by_this_gateway() -> None:
    by_default, strict = (
        manager_of(render(1, 2, ["one"]))["httpFilters"] for render in (native.routing, native.strict)
    )
    assert strict[0]["typedConfig"].pop("rejectDuplicateKeys") is True
    assert strict == by_default


def test_both_sides_are_judged_by_the_same_policy() -> None:
    mcp, rbac, router = manager_of(native.judged(1, 2, ["one"]))["httpFilters"]
    assert [mcp, router] == manager()["httpFilters"]
    [rule] = rbac["typedConfig"]["rules"]["policies"]["no-deletion"]["permissions"]
    matcher = rule["sourcedMetadata"]["metadataMatcher"]
    [own] = policy(NAMESPACE)["typed_config"]["rules"]["policies"]["no-deletion"]["permissions"]
    assert matcher.pop("filter") == "envoy.filters.http.mcp"
    expected = own["sourced_metadata"]["metadata_matcher"]
    assert matcher["path"] == expected["path"]
    assert matcher["value"]["stringMatch"]["safeRegex"] == expected["value"]["string_match"]["safe_regex"]
