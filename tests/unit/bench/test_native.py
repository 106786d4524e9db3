"""Envoy's own filters, configured for a comparison that is fair."""

from __future__ import annotations

import json
from typing import Any

from bench import native
from mcp_extproc.contract import NAMESPACE
from mcp_extproc.envoy.render.access_log import FIELDS


def manager(**more: str) -> Any:
    """The configuration of the listener's connection manager."""
    bootstrap = json.loads(native.routing(1, 2, ["one"], **more).to_json())
    [listener] = bootstrap["staticResources"]["listeners"]
    return listener["filterChains"][0]["filters"][0]["typedConfig"]


def test_an_access_log_has_the_fields_of_this_gateways() -> None:
    [log] = manager(access_log="/the/file")["accessLog"]
    assert log["typedConfig"]["path"] == "/the/file"
    assert log["typedConfig"]["logFormat"] == {"jsonFormat": native.FIELDS_OF_ROUTER, "omitEmptyValues": True}
    assert list(native.FIELDS_OF_ROUTER) == list(FIELDS)


def test_none_of_them_reads_metadata_that_the_mcp_filter_does_not_write() -> None:
    """With its default, which is in docs/policies.md; `mcp_proxy` would leave them all empty."""
    assert not [name for name, format in native.FIELDS_OF_ROUTER.items() if f"{NAMESPACE}:" in format]
    assert "envoy.filters.http.mcp:method" in native.FIELDS_OF_ROUTER["mcp.method.name"]


def test_none_is_written_unless_asked_for() -> None:
    assert "accessLog" not in manager()
