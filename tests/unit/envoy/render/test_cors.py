"""Which origins the CORS filter allows: those that the worker lets call, as browsers write them."""

from __future__ import annotations

import pytest
import re2

from mcp_extproc.envoy.render.cors import LOOPBACK_ORIGINS
from mcp_extproc.mcp.transport import origin_allowed

ALLOWED = [
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:65535",
    "http://localhost:0",
    "http://localhost:09999",
    "http://[::1]:60000",
    "http://127.0.0.1:64999",
    "http://localhost:65499",
    "http://localhost:65529",
    "HTTP://LocalHost:3000",
    "http://localhost.:3000",
    "http://app.localhost:3000",
    "http://a_b.c-d.localhost",
    "http://127.0.0.1:6274",
    "http://127.1.2.3",
    "http://127.255.249.199",
    "http://127.99.10.0:80",
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
    "http://127.0.0.256",
    "http://127.999.0.1:3000",
    "http://127.0.0.01",
    "http://[::2]",
    "http://[::1].evil.example",
    "http://localhost,http://evil.example",
    "http://.localhost",
    "http://localhost:123456",
    "http://localhost:65536",
    "http://localhost:65540",
    "http://127.0.0.1:65600",
    "http://[::1]:66000",
    "http://localhost:70000",
    "http://localhost:99999",
]


@pytest.mark.parametrize("origin", [*ALLOWED, *REFUSED])
def test_the_filter_allows_what_the_worker_allows(origin: str) -> None:
    found = any(re2.fullmatch(allowed, origin) is not None for allowed in LOOPBACK_ORIGINS)
    assert found == origin_allowed(origin, None) == (origin in ALLOWED)
