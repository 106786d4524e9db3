"""Which origins the CORS filter allows: those that the worker lets call, as browsers write them."""

from __future__ import annotations

import pytest
import re2

from mcp_extproc.envoy.render.cors import LOOPBACK_ORIGIN
from mcp_extproc.mcp.transport import origin_allowed

ALLOWED = [
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:65535",
    "HTTP://LocalHost:3000",
    "http://localhost.:3000",
    "http://app.localhost:3000",
    "http://a_b.c-d.localhost",
    "http://127.0.0.1:6274",
    "http://127.1.2.3",
    "http://[::1]:3000",
    "https://[::1]",
]
REFUSED = [
    "",
    "null",
    "localhost:3000",
    "file://",
    "ftp://localhost",
    "chrome-extension://localhost",
    "http://localhost.evil.example",
    "http://evil.example/localhost",
    "http://evil-localhost",
    "http://localhost@evil.example",
    "http://evil.example#localhost",
    "http://localhost:3000.evil.example",
    "http://localhost\n",
    "http://127.0.0.1.evil.example",
    "http://1127.0.0.1",
    "http://128.0.0.1",
    "http://127.0.1",
    "http://[::2]",
    "http://[::1].evil.example",
    "http://localhost,http://evil.example",
    "http://.localhost",
    "http://localhost:123456",
]


@pytest.mark.parametrize("origin", [*ALLOWED, *REFUSED])
def test_the_filter_allows_what_the_worker_allows(origin: str) -> None:
    found = re2.fullmatch(LOOPBACK_ORIGIN, origin) is not None
    assert found == origin_allowed(origin, None) == (origin in ALLOWED)
