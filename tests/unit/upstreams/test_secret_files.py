"""Credentials in files: taken when they are whole, and never shown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mcp_extproc.upstreams import secret_files
from mcp_extproc.upstreams.secret_files import SecretFiles
from tests.support.waiting import eventually
from tests.unit.gateway.support import catalog_of, config

SECRET = "k3y-9fA1-first"


class Files:
    """One server with a credential in a file, and one without."""

    def __init__(self, file: Path) -> None:
        self.file = file
        header = {"name": "key", "file": str(file)}
        self.entries = catalog_of(config({"a": {"credentials": {"header": header}}, "b": {}})).entries
        self.sent: list[tuple[str, str]] = []
        self.files = SecretFiles(self.entries.values(), lambda server, secret: self.sent.append((server, secret)))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\r\n\n")
    found = Files(file)
    found.files.read()
    return found


def test_it_is_read_without_its_line_breaks(files: Files) -> None:
    assert files.sent == [("a", SECRET)]
    for _ in range(3):
        files.files.look()
    assert len(files.sent) == 1


def test_a_change_is_taken_once_it_stays(files: Files) -> None:
    """In place, as a program writes it: at first it is not whole."""
    for text in ("k3y", "k3y-9fA1-other"):
        files.file.write_text(text)
        files.files.look()
    assert len(files.sent) == 1
    files.files.look()
    assert files.sent[1:] == [("a", "k3y-9fA1-other")]


def test_a_link_that_is_moved_is_a_change(files: Files, tmp_path: Path) -> None:
    """As Kubernetes replaces mounted secrets."""
    new = tmp_path / "new"
    new.write_text("of the next day")
    files.file.unlink()
    files.file.symlink_to(new)
    other = tmp_path / "newer"
    other.write_text("of the day after")
    for _ in range(2):
        files.files.look()
    link = tmp_path / "link"
    link.symlink_to(other)
    link.replace(files.file)
    for _ in range(2):
        files.files.look()
    assert [secret for _, secret in files.sent] == [SECRET, "of the next day", "of the day after"]


@pytest.mark.parametrize("text", ["", "\n", f"{SECRET}\nsecond line", f" {SECRET}", f"{SECRET}\0", "x" * 20_000])
def test_what_can_not_be_sent_leaves_what_was_there(files: Files, text: str, caplog: pytest.LogCaptureFixture) -> None:
    files.file.write_text(text)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            files.files.look()
    assert len(files.sent) == 1
    [record] = caplog.records
    assert record.getMessage() == "credential_unreadable"
    assert SECRET not in str(vars(record))


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    files = Files(tmp_path / "later")
    files.files.read()
    assert files.sent == []
    files.file.write_text(SECRET)
    for _ in range(2):
        files.files.look()
    assert files.sent == [("a", SECRET)]


async def test_it_looks_by_itself(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_files, "LOOK_SECONDS", 0.001)
    files.files.start()
    files.file.write_text("k3y-9fA1-other")
    await eventually(lambda: files.sent[1:] == [("a", "k3y-9fA1-other")], "it is read again")
    await files.files.close()
