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
    """The mcp filter writes its metadata under the same name, unless it is given another one."""
    [log] = manager(access_log="/the/file")["accessLog"]
    assert log["typedConfig"]["path"] == "/the/file"
    assert log["typedConfig"]["logFormat"] == {"jsonFormat": FIELDS, "omitEmptyValues": True}
    assert NAMESPACE == "mcp_proxy"


def test_none_is_written_unless_asked_for() -> None:
    assert "accessLog" not in manager()
