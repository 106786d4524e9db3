"""The keys that Envoy has: those of the file, as it could be read last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import ConfigError, GatewayConfig
from mcp_extproc.envoy.render.authentication.api_keys import keys_by_filter
from mcp_extproc.run.api_keys import ApiKeys

KEY, OTHER = "alice-" + "k" * 20, "other-" + "o" * 20


def config(file: Path | None, of_virtual_server: Path | None = None) -> GatewayConfig:
    def section(file: Path | None) -> dict[str, Any]:
        return {} if file is None else {"authentication": {"api_keys": {"file": str(file)}}}

    servers = {"servers": {"a": {"url": "http://127.0.0.1:1/mcp"}}}
    return GatewayConfig.model_validate(
        {**servers, **section(file), "virtual_servers": {"other": section(of_virtual_server)}}
    )


def test_without_a_file_there_are_none() -> None:
    keys = ApiKeys(config(None))
    assert (keys.of(config(None)), keys.signature(), keys.read()) == ({}, (), ({}, []))


def test_keys_of_the_configuration_are_not_watched() -> None:
    sections = {"authentication": {"api_keys": {"keys": {"alice": KEY, "bob": [OTHER]}}}}
    written = GatewayConfig.model_validate({"servers": {"a": {"url": "http://127.0.0.1:1/mcp"}}, **sections})
    keys = ApiKeys(written)
    assert (keys.of(written), keys.signature(), keys.read()) == ({}, (), ({}, []))
    assert list(keys_by_filter(written, {}).values()) == [{"alice": (KEY,), "bob": (OTHER,)}]


def test_what_was_read_stays_until_it_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps({"alice": KEY}))
    keys = ApiKeys(config(file))
    assert keys.of(config(file)) == {str(file): {"alice": (KEY,)}}
    assert keys.read() == ({}, [])
    before = keys.signature()
    file.write_text(json.dumps({"alice": OTHER}))
    assert keys.signature() != before
    assert keys.of(config(file)) == {str(file): {"alice": (KEY,)}}
    found, _ = keys.read()
    assert found == {str(file): {"alice": (OTHER,)}}
    assert keys.replace(found) == {str(file): {"alice": (KEY,)}}
    assert keys.of(config(file)) == found
    file.unlink()
    changed, [problem] = keys.read()
    assert (changed, "no such file" in str(problem)) == ({}, True)
    assert keys.of(config(file)) == found


def test_a_file_that_can_not_be_read_keeps_none_of_the_others(tmp_path: Path) -> None:
    """Two endpoints may have a file each."""
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (one, two):
        file.write_text(json.dumps({"alice": KEY}))
    keys = ApiKeys(config(one, two))
    assert keys.of(config(one, two)).keys() == {str(one), str(two)}
    one.write_text("")
    two.write_text(json.dumps({"bob": OTHER}))
    changed, [problem] = keys.read()
    assert (changed, str(problem)) == (
        {str(two): {"bob": (OTHER,)}},
        f"{one}: is empty: write {{}} where nobody has a key",
    )


def test_another_file(tmp_path: Path) -> None:
    """It is read when a configuration names it, and the one before is forgotten once that is served."""
    one, two = tmp_path / "one", tmp_path / "two"
    for file, key in ((one, KEY), (two, OTHER)):
        file.write_text(json.dumps({"alice": key}))
    keys = ApiKeys(config(one))
    assert keys.of(config(one)) == {str(one): {"alice": (KEY,)}}
    assert keys.of(config(two)) == {str(two): {"alice": (OTHER,)}}
    keys.serve(config(two))
    assert keys.read() == ({}, [])
    one.unlink()
    with pytest.raises(ConfigError):
        keys.of(config(one))
