"""Access logs that are alike, and others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.logs import compare

CALL = '{"mcp.method.name":"tools/call","more":"%s"}\n'
OTHER = '{"mcp.method.name":"tools/list"}\n'


def log(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    file.write_text("".join(lines))
    return file


def test_lines_of_nearly_the_same_length(tmp_path: Path) -> None:
    mine, theirs = CALL % ("x" * 60), CALL % ("x" * 65)
    compare({"mine": log(tmp_path, "a", OTHER, mine, mine), "theirs": log(tmp_path, "b", *[OTHER] * 9, theirs)})
    compare({})


def test_lines_of_different_lengths(tmp_path: Path) -> None:
    mine, theirs = log(tmp_path, "a", CALL % ("x" * 60)), log(tmp_path, "b", CALL % "")
    with pytest.raises(BenchError, match="in bytes on average: mine: 102, theirs: 42"):
        compare({"mine": mine, "theirs": theirs})


def test_a_log_without_the_calls(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="theirs: no tools/call"):
        compare({"mine": log(tmp_path, "a", CALL), "theirs": log(tmp_path, "b", OTHER)})
