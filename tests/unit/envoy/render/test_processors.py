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


def processors(data: object, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Filters that ask workers, with the name of the filter that they are, or are in."""
    match data:
        case dict() if data.get("@type") == PROCESSOR:
            yield name, data
        case dict():
            for key, value in data.items():
                yield from processors(value, name or (data.get("name", "") if key == "typed_config" else ""))
        case list():
            for value in data:
                yield from processors(value, name)


def sends(processor: dict[str, Any], name: str) -> bool:
    """Whether a worker gets this request header."""
    if processor["processing_mode"].get("request_header_mode") == "SKIP":
        return False
    rules = processor.get("forward_rules", {})
    assert "allowed_headers" not in rules
    return {"exact": name} not in rules.get("disallowed_headers", {}).get("patterns", [])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("filters", "judging"), [([], Judging.NEVER), ([RBAC], Judging.EARLY), ([LUA], Judging.FIRST)], ids=str
)
def test_no_other_filter_looks_like_that_of_the_first_visit(filters: Any, judging: Judging, workers: int) -> None:
    """It hides what all others show, and shows what they hide. So whatever a request lacks, it does not pass for another's."""
    config = GatewayConfig.model_validate({**CONFIG, "envoy": {"http_filters": filters}})
    assert of(config) is judging
    layout = Layout.in_directory(Path("/run/mcp"), workers=workers)
    listeners = plain(bootstrap(config, layout))["static_resources"]["listeners"]
    parts = pieces(config, layout, judging)
    own = [found for listener in listeners if listener["name"] != "mcp_repair" for found in processors(listener)]
    attached = list(processors([*parts.filters, *parts.last_filters]))
    for found, first in ((own, "mcp_judge"), (attached, "mcp/judge")):
        asking = [(name, item) for name, item in found if item["processing_mode"].get("request_header_mode") != "SKIP"]
        assert len(asking) >= 2
        early = [name for name, item in asking if not sends(item, EARLY_HIDES)]
        assert early == [name for name, item in asking if sends(item, EARLY_SHOWS)]
        assert set(early) == ({first} if judging is Judging.EARLY else set())
    # The worker knows this one by its route.
    [repair] = [item for listener in listeners if listener["name"] == "mcp_repair" for _, item in processors(listener)]
    assert repair["request_attributes"] == ["xds.route_name"]
