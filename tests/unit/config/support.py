"""Short ways to load a configuration that a test spells out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from mcp_extproc.config import ConfigError, GatewayConfig, Server, loads


def native(text: str, environ: Mapping[str, str] | None = None) -> GatewayConfig:
    loaded = loads(text, "gateway.yaml", environ or {})
    assert loaded.source == "native"
    assert loaded.warnings == ()
    return loaded.config


def server(text: str) -> Server:
    """The server `a` whose keys are given as the inside of a YAML flow mapping."""
    return native(f"servers: {{a: {{{text}}}}}").servers["a"]


def error_of(text: str, name: str = "gateway.yaml", environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, name, environ or {})
    # A chained pydantic or parser error would hold the values, and some loggers print the chain.
    assert caught.value.__context__ is None
    return str(caught.value)


def unplaced_error_of(text: str) -> str:
    """The same for a native file, without the lines of the problems, which most tests are not about."""
    with pytest.raises(ConfigError) as caught:
        loads(text, "gateway.yaml", {})
    assert caught.value.__context__ is None
    return str(ConfigError(caught.value.source, [replace(one, line=None) for one in caught.value.problems]))
