"""Reading what a run of the suite left on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.results import Check
from tests.conformance.suite import read

TIME = "2026-01-02T03-04-05-678Z"


def leave(directory: Path, folder: str, *entries: dict[str, Any]) -> None:
    (directory / folder).mkdir()
    (directory / folder / "checks.json").write_text(json.dumps(entries))


def test_checks_by_scenario(tmp_path: Path) -> None:
    leave(tmp_path, f"server-ping-{TIME}", {"id": "ping", "name": "Ping", "status": "SUCCESS", "details": {"a": 1}})
    leave(
        tmp_path,
        f"server-server-sse-polling-{TIME}",
        {"id": "x", "name": "X", "status": "WARNING", "errorMessage": "e"},
    )
    (tmp_path / "suite.log").write_text("")
    assert read(tmp_path, prefix="server-").scenarios == {
        "ping": [Check("ping", "Ping", "SUCCESS", "", {"a": 1})],
        "server-sse-polling": [Check("x", "X", "WARNING", "e")],
    }


def test_a_scenario_without_file_is_not_there(tmp_path: Path) -> None:
    (tmp_path / f"ping-{TIME}").mkdir()
    leave(tmp_path, f"json-schema-2020-12-preservation-{TIME}")
    assert read(tmp_path).scenarios == {"json-schema-2020-12-preservation": []}


def test_two_runs_in_one_directory_are_not_mixed(tmp_path: Path) -> None:
    leave(tmp_path, f"ping-{TIME}")
    leave(tmp_path, "ping-2026-01-02T03-04-06-000Z")
    with pytest.raises(AssertionError, match="more than one run of ping"):
        read(tmp_path)
