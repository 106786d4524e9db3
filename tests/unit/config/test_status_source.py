"""A status page where nothing is said of it."""

from __future__ import annotations

import pytest

from mcp_extproc.config import TextSource
from mcp_extproc.config.status_source import StatusSource

SERVERS = "servers: {a: {url: 'http://a'}}\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", "127.0.0.1:0"),
        ("status: {address: 'localhost:9901'}", "localhost:9901"),
        ("status: {address: ''}", ""),
    ],
)
def test_it_is_there_unless_the_file_says_otherwise(text: str, address: str) -> None:
    source = StatusSource(TextSource(SERVERS + text, "gateway.yaml", {}))
    loaded = source.load()
    assert loaded.config.status.address == address
    assert loaded.text == SERVERS + text
    assert loaded.status == ("127.0.0.1:0" if not text else None)
