"""The keys that Envoy has: those of the file, as it could be read last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, GatewayConfig
from mcp_extproc.run.api_keys import ApiKeys

KEY, OTHER = "alice-" + "k" * 20, "other-" + "o" * 20


def config(file: Path | None) -> GatewayConfig:
    sections = {} if file is None else {"authentication": {"api_keys": {"file": str(file)}}}
    return GatewayConfig.model_validate({"servers": {"a": {"url": "http://127.0.0.1:1/mcp"}}, **sections})


def test_without_a_file_there_are_none() -> None:
    keys = ApiKeys(config(None))
    assert (keys.of(config(None)), keys.signature(), keys.read()) == ({}, None, None)


def test_what_was_read_stays_until_it_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps({"alice": KEY}))
    keys = ApiKeys(config(file))
    assert keys.of(config(file)) == {"alice": (KEY,)}
    assert keys.read() is None
    before = keys.signature()
    file.write_text(json.dumps({"alice": OTHER}))
    assert keys.signature() != before
    assert keys.of(config(file)) == {"alice": (KEY,)}
    found = keys.read()
    assert found == {"alice": (OTHER,)}
    assert keys.replace(found) == {"alice": (KEY,)}
    assert keys.of(config(file)) == found
    file.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        keys.read()
    assert keys.of(config(file)) == found


def test_another_file(tmp_path: Path) -> None:
    """It is read when a configuration names it, and the one before is forgotten once that is served."""
    one, two = tmp_path / "one", tmp_path / "two"
    for file, key in ((one, KEY), (two, OTHER)):
        file.write_text(json.dumps({"alice": key}))
    keys = ApiKeys(config(one))
    assert keys.of(config(one)) == {"alice": (KEY,)}
    assert keys.of(config(two)) == {"alice": (OTHER,)}
    keys.serve(config(two))
    assert keys.read() is None
    one.unlink()
    with pytest.raises(ConfigError):
        keys.of(config(one))
