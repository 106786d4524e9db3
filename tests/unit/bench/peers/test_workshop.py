"""Builds: sources of the right commit, commands with visible progress, and why one failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.peers.workshop import Release, Workshop, cache_folder, without


def repository(folder: Path) -> Release:
    """One with a tag."""
    folder.mkdir()
    (folder / "code").write_text("first")
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"], ["tag", "v1"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return Release(folder.as_uri(), "v1", head.stdout.strip(), "2026-01-01")


def test_sources_are_cloned_once(tmp_path: Path) -> None:
    release = repository(tmp_path / "peer")
    workshop = Workshop(tmp_path / "cache")
    folder = workshop.source("peer", release)
    assert (folder / "code").read_text() == "first"
    (folder / "code").write_text("kept")
    assert (workshop.source("peer", release) / "code").read_text() == "kept"


def test_another_commit_is_not_built(tmp_path: Path) -> None:
    release = repository(tmp_path / "peer")
    moved = Release(release.repository, release.tag, "0" * 40, release.date)
    workshop = Workshop(tmp_path / "cache")
    with pytest.raises(BenchError, match=f"is commit {release.commit} instead of 0000"):
        workshop.source("peer", moved)
    with pytest.raises(BenchError, match="instead of 0000"):
        workshop.source("peer", moved)


def test_sources_that_are_there_are_copied(tmp_path: Path) -> None:
    release = repository(tmp_path / "peer")
    (tmp_path / "peer" / "link").symlink_to("left-out")
    workshop = Workshop(tmp_path / "cache", sources={"peer": tmp_path / "peer", "gone": tmp_path / "gone"})
    folder = workshop.source("peer", release)
    assert {path.name for path in folder.iterdir()} == {"code", "link"}
    (folder / "code").write_text("patched")
    assert (tmp_path / "peer" / "code").read_text() == "first"
    with pytest.raises(BenchError, match=r"gone with the sources of gone does not exist"):
        workshop.source("gone", release)


def test_a_build_says_what_it_does(tmp_path: Path) -> None:
    said: list[str] = []
    workshop = Workshop(tmp_path, say=said.append)
    workshop.run(
        "peer",
        [sys.executable, "-c", "import os; print('one'); print(os.environ['WHERE'])"],
        environment={"WHERE": tmp_path},
    )
    assert said[1:] == ["one", str(tmp_path)]
    assert (tmp_path / "logs" / "peer.log").read_text() == f"one\n{tmp_path}\n"


def test_a_failed_build_says_why(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    program = "import sys; print(*range(100), sep='\\n'); sys.exit('no such module')"
    with pytest.raises(BenchError, match=r"(?s)failed with status 1; the end of .*peer\.log:\n86\n.*no such module$"):
        workshop.run("peer", [sys.executable, "-c", program])
    with pytest.raises(BenchError, match="no-such-compiler cannot be run: No such file"):
        workshop.run("peer", ["no-such-compiler"])


def test_what_the_machine_lacks_is_named() -> None:
    assert without("sh") == ""
    assert without("sh", "no-such-compiler", "nor-this") == (
        "no-such-compiler and nor-this needed for the build, not on the PATH"
    )


def test_everything_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mcp-extproc-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/mcp-extproc-bench")
