"""Which headers the filters show that ask workers about requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import EARLY_HIDES, EARLY_SHOWS
from mcp_extproc.envoy.attach.fields import plain
from mcp_extproc.envoy.attach.parts import pieces
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap
from mcp_extproc.envoy.render.judging import Judging, of

HTTP = "type.googleapis.com/envoy.extensions.filters.http"
PROCESSOR = f"{HTTP}.ext_proc.v3.ExternalProcessor"
RBAC = {"name": "rbac", "typed_config": {"@type": f"{HTTP}.rbac.v3.RBAC"}}
LUA = {"name": "lua", "typed_config": {"@type": f"{HTTP}.lua.v3.Lua"}}
CONFIG: dict[str, Any] = {
    "servers": {"alpha": {"url": "http://alpha.example/mcp"}},
    "virtual_servers": {"few": {"servers": {"alpha": "all"}}},
    "vetting": [{"tools": ["*"]}],
}


def processors(data: object) -> Iterator[dict[str, Any]]:
    """What asks workers in a filter."""
    match data:
        case dict() if data.get("@type") == PROCESSOR:
            yield data
        case dict():
            for value in data.values():
                yield from processors(value)
        case list():
            for value in data:
                yield from processors(value)


def asking(filters: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Those that ask about requests, by name."""
    found = [(item["name"], processor) for item in filters for processor in processors(item)]
    return [(name, item) for name, item in found if item["processing_mode"].get("request_header_mode") != "SKIP"]


def filters_of(listener: dict[str, Any]) -> list[Any]:
    found: list[Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    return found


def sends(processor: dict[str, Any], name: str) -> bool:
    """Whether a worker gets this request header."""
    rules = processor.get("forward_rules", {})
    assert "allowed_headers" not in rules
    return {"exact": name} not in rules.get("disallowed_headers", {}).get("patterns", [])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("policies", "judging"), [([], Judging.NEVER), ([RBAC], Judging.EARLY), ([LUA], Judging.FIRST)], ids=str
)
def test_no_other_filter_looks_like_that_of_the_first_visit(policies: Any, judging: Judging, workers: int) -> None:
    """It hides what all others show, and shows what they hide. So whatever a request lacks, it does not pass for another's."""
    config = GatewayConfig.model_validate({**CONFIG, "envoy": {"http_filters": policies}})
    assert of(config) is judging
    layout = Layout.in_directory(Path("/run/mcp"), workers=workers)
    listeners = {item["name"]: item for item in plain(bootstrap(config, layout))["static_resources"]["listeners"]}
    parts = pieces(config, layout, judging)
    for filters, first in (
        (filters_of(listeners["mcp"]), "mcp_judge"),
        (filters_of(listeners["mcp_batches"]), "mcp_judge"),
        ([*parts.filters, *parts.last_filters], "mcp/judge"),
    ):
        found = asking(filters)
        assert len(found) >= 2
        early = [name for name, item in found if not sends(item, EARLY_HIDES)]
        assert early == [name for name, item in found if sends(item, EARLY_SHOWS)]
        assert early == ([first] if judging is Judging.EARLY else [])
    # The worker knows this one by its route.
    [(_, repair)] = asking(filters_of(listeners["mcp_repair"]))
    assert repair["request_attributes"] == ["xds.route_name"]
