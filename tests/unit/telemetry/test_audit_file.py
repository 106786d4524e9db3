"""The audit's file."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_extproc.telemetry.audit_file import AuditFile, AuditFileError

LINE = b"0123456789\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def file(path: Path) -> Iterator[AuditFile]:
    found = AuditFile(path, rotate_bytes=3 * len(LINE), keep=2)
    found.open()
    yield found
    found.close()


def lines(*paths: Path) -> list[bytes]:
    return [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]


def test_lines_are_appended(file: AuditFile, path: Path) -> None:
    file.write([b"a\n", b"b\n"])
    file.write([])
    file.close()
    file.open()
    file.write([b"c\n"])
    assert lines(path) == [b"a\n", b"b\n", b"c\n"]
    assert (file.written, file.lost, file.problem) == (3, 0, None)


@pytest.mark.parametrize("has_reader", [False, True])
def test_a_pipe_is_no_file_and_is_not_waited_for(path: Path, has_reader: bool) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if has_reader else -1
    try:
        with pytest.raises(AuditFileError, match="a file in a folder"):
            AuditFile(path, 1 << 20, 1).open()
    finally:
        if has_reader:
            os.close(reader)


def test_only_the_owner_reads_it(path: Path) -> None:
    path.touch(0o644)
    file = AuditFile(path, 1 << 20, 1)
    file.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.close()
    path.unlink()
    old = os.umask(0)
    try:
        file.open()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.close()


def test_no_line_is_lost_in_a_rotation(file: AuditFile, path: Path) -> None:
    written = [b"%010d\n" % number for number in range(9)]
    for one in written:
        file.write([one])
    earlier = [path.with_name("audit.jsonl.2"), path.with_name("audit.jsonl.1"), path]
    assert lines(*earlier) == written
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in earlier)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(1, 45), max_size=12)), st.integers(1, 60), st.integers(0, 80))
def test_no_file_exceeds_its_size_however_lines_come(batches: list[list[int]], most: int, before: int) -> None:
    """But for a line that does so by itself, and what was there before: nothing is missing, nor out of order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        path.write_bytes(b"-" * (before - 1) + b"\n" if before else b"")
        expected = lines(path)
        file = AuditFile(path, most, keep=1000)
        file.open()
        for batch in batches:
            made = [b"%d" % (len(expected) % 10) * (length - 1) + b"\n" for length in batch]
            file.write(made)
            expected += made
        file.close()
        files = [path.with_name(f"audit.jsonl.{number}") for number in range(len(expected), 0, -1)]
        files = [*filter(Path.exists, files), path]
        assert lines(*files) == expected
        assert file.written == sum(map(len, batches))
        for each in files:
            assert each.stat().st_size <= most or len(lines(each)) == 1
        for one, next_one in pairwise(files):  # no file is begun too early
            assert one.stat().st_size + len(lines(next_one)[0]) > most


def test_a_file_that_others_moved_is_begun_again(file: AuditFile, path: Path) -> None:
    file.write([b"a\n"])
    moved = path.rename(path.with_name("audit.jsonl-20261130"))
    file.write([b"b\n"])
    assert (lines(moved), lines(path)) == ([b"a\n"], [b"b\n"])
    path.unlink()
    path.touch(0o644)  # as logrotate's `create` does
    file.write([b"c\n"])
    assert lines(path) == [b"c\n"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (file.written, file.lost) == (3, 0)


def test_a_file_that_others_emptied_is_not_rotated_for_what_it_had(file: AuditFile, path: Path) -> None:
    for _ in range(3):
        file.write([LINE])
    os.truncate(path, 0)  # as logrotate's `copytruncate` does
    file.write([b"a\n"])
    assert lines(path) == [b"a\n"]
    assert [each.name for each in path.parent.iterdir()] == ["audit.jsonl"]


def test_a_full_disk_leaves_no_hole_in_a_file_that_others_emptied(
    file: AuditFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write([LINE])
    os.truncate(path, 0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        file.write([LINE])
    assert path.read_bytes() == b""


def test_where_a_file_was_moved_and_none_can_be_begun_lines_are_counted(file: AuditFile, path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("elsewhere"))
    file.write([LINE])
    assert (file.written, file.lost) == (0, 1)
    path.unlink()
    file.write([LINE])
    assert (lines(path), file.problem) == ([LINE], None)


def test_so_many_files_are_kept(file: AuditFile, path: Path) -> None:
    for _ in range(20):
        file.write([LINE])
    assert sorted(each.name for each in path.parent.iterdir()) == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert file.written == 20


def test_none_is_kept(path: Path) -> None:
    file = AuditFile(path, rotate_bytes=len(LINE), keep=0)
    file.open()
    for number in range(3):
        file.write([b"%d\n" % number * len(LINE)])
    file.close()
    assert [each.name for each in path.parent.iterdir()] == ["audit.jsonl"]
    assert lines(path) == [b"2\n"] * len(LINE)


def test_one_writer(file: AuditFile, path: Path) -> None:
    with pytest.raises(AuditFileError, match=r"audit\.jsonl: another gateway writes it"):
        AuditFile(path, 1, 1).open()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AuditFileError, match="No such file or directory"):
        AuditFile(tmp_path / "gone" / "audit.jsonl", 1, 1).open()


def test_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditFileError):
        AuditFile(path, 1, 1).open()
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_counted(file: AuditFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write([LINE])
    write, room = os.write, 15

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(descriptor, data[:room])
        room -= done
        return done

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        file.write([LINE, LINE])
    assert lines(path) == [LINE]
    assert (file.written, file.lost) == (1, 2)
    assert file.problem is not None
    assert file.problem.errno == errno.ENOSPC

    file.write([LINE])
    assert lines(path) == [LINE, LINE]
    assert (file.written, file.lost, str(file.problem)) == (2, 2, "None")


def test_a_real_full_disk() -> None:
    """/dev/full takes nothing; it can't be cut either."""
    file = AuditFile(Path("/dev/full"), 1 << 20, 1)
    file._descriptor = os.open("/dev/full", os.O_WRONLY)
    file.write([LINE])
    file.close()
    assert (file.written, file.lost) == (0, 1)


def test_where_files_can_not_be_renamed_the_file_grows(file: AuditFile, path: Path) -> None:
    path.with_name("audit.jsonl.1").mkdir()
    (path.with_name("audit.jsonl.2") / "full").mkdir(parents=True)
    for _ in range(5):
        file.write([LINE])
    assert lines(path) == [LINE] * 5
    assert (file.written, file.lost) == (5, 0)


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = AuditFile(folder / "audit.jsonl", rotate_bytes=1, keep=1)
    file.open()
    file.write([LINE])
    (folder / "audit.jsonl").rename(tmp_path / "moved")
    folder.rmdir()
    file.write([LINE])
    assert (file.written, file.lost) == (1, 1)
    folder.mkdir()
    file.write([LINE])
    assert (file.written, file.lost) == (2, 1)
    file.close()
