"""What else the machine did, and which code ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.machine import Ticks, Watch, commit

STAT = "cpu  100 10 50 800 20 5 15 {} 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n"


def test_stolen_time_is_a_share_of_all() -> None:
    before, after = Ticks.parse(STAT.format(0)), Ticks.parse(STAT.format(250))
    assert before == (1000, 0)
    assert after.stolen_since(before) == pytest.approx(1.0)
    assert Ticks(2000, 10).stolen_since(before) == pytest.approx(0.01)
    assert before.stolen_since(before) == 0


def test_a_run_knows_its_machine_at_both_ends() -> None:
    about = Watch().about()
    assert {"cpu", "cores", "load", "load_at_end", "stolen"} == about.keys()
    assert 0 <= about["stolen"] <= 1


def test_a_run_knows_its_commit_and_whether_the_code_was_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    (tmp_path / "docs").mkdir()
    file, page = tmp_path / "code", tmp_path / "docs" / "page"
    file.write_text("old")
    page.write_text("old")
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"], ["tag", "v1"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    head = subprocess.run(
        ["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert len(commit(tmp_path)) == 10
    assert head.startswith(commit(tmp_path))
    page.write_text("new")
    assert commit(tmp_path) == head[:10]
    file.write_text("new")
    assert commit(tmp_path) == f"{head[:10]}+"
