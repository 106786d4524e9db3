"""Files with API keys: names and keys, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError
from mcp_extproc.config.api_keys import read_api_keys

KEY, OTHER = "alice-" + "k" * 20, "other-" + "o" * 20


def read(folder: Path, text: str) -> dict[str, tuple[str, ...]]:
    file = folder / "keys.yaml"
    file.write_text(text)
    return dict(read_api_keys(file))


@pytest.mark.parametrize("text", [f"alice: {KEY}\nbob b: [{OTHER}]", json.dumps({"alice": KEY, "bob b": [OTHER]})])
def test_names_and_keys(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {"alice": (KEY,), "bob b": (OTHER,)}


def test_a_name_may_have_several_keys_and_nobody_any(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({"alice": [KEY, OTHER]})) == {"alice": (KEY, OTHER)}
    assert read(tmp_path, "{}") == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty: write {}"),
        (" \n", "is empty: write {}"),
        ("# nobody", "expected a name and a key"),
        ("alice", "expected a name and a key"),
        (f"[{KEY}]", "expected a name and a key"),
        (f"alice: '{KEY}", "not YAML"),
        ("alice:", "entry 1: expected a key"),
        ("alice: ''", "entry 1: expected a key"),
        ("alice: 12345678901234567", "entry 1: expected a key"),
        ("alice: short", "entry 1: expected a key"),
        (f"alice: {{a: {KEY}}}", "entry 1: expected a key"),
        ("alice: []", "entry 1: there is no key"),
        (f"alice: '{KEY} '", "entry 1: expected a key"),
        (f"alice: '{KEY},'", "entry 1: expected a key"),
        (f"alice: '{KEY}é'", "entry 1: expected a key"),
        (f"alice: {'x' * 513}", "entry 1: expected a key"),
        (f"alice: [{KEY}, {KEY}]", "entry 1: a key is listed twice"),
        (f"alice: {KEY}\nbob: [{OTHER}, {KEY}]", "entry 2: entry 1 has the same key"),
        (f"alice: {KEY}\nalice: {OTHER}", "a name is given twice"),
        (f"'': {KEY}", "entry 1: expected a name"),
        (f"' a': {KEY}", "entry 1: expected a name"),
        (f'"a\\nb": {KEY}', "entry 1: expected a name"),
        (f"{'n' * 257}: {KEY}", "entry 1: expected a name"),
        (f"{KEY}: alice", "entry 1: expected a key"),
        (f"{KEY}: alice\n{KEY}: bob", "a name is given twice"),
    ],
)
def test_what_is_refused_without_being_shown(tmp_path: Path, text: str, problem: str) -> None:
    """Also where names and keys are exchanged."""
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    assert problem in str(refused.value)
    assert KEY not in str(refused.value)
    assert OTHER not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_api_keys(tmp_path / "keys.yaml")
