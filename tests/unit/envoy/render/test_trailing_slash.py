"""Redirects to an endpoint from its path with another ending."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.envoy.render.trailing_slash import redirects


def locations(path: str) -> dict[str, str]:
    """Where requests with the other ending are sent, by the path that they have."""
    config = GatewayConfig.model_validate(
        {"servers": {"a": {"url": "http://127.0.0.1:1/mcp"}}, "listen": {"path": path}}
    )
    found: dict[str, str] = {}
    for route in redirects(endpoints(config)[0]):
        headers = [option.header for option in route.response_headers_to_add if option.header is not None]
        assert route.match is not None
        assert route.match.path is not None
        found |= dict.fromkeys([route.match.path], next((one.value for one in headers if one.key == "location"), ""))
    return found


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/a/b", "/a/b/", "/a:b", "/a:b/"])
def test_a_location_is_right_behind_any_proxy(path: str) -> None:
    """That ends TLS, has another host, or adds a prefix."""
    [(other, location)] = locations(path).items()
    assert other == (path[:-1] if path.endswith("/") else f"{path}/")
    for base in ("https://gw.example", "http://127.0.0.1:1975/team/gateway"):
        assert urljoin(base + other, location) == base + path


def test_the_root_has_no_other_ending() -> None:
    assert locations("/") == {}
