"""Whether a file is another one."""

from __future__ import annotations

import os
from pathlib import Path

from mcp_extproc.file_signature import file_signature


def test_it_stays_while_a_file_does(tmp_path: Path) -> None:
    file = tmp_path / "file"
    missing = file_signature(file)
    assert missing == file_signature(tmp_path / "another")
    file.write_text("a")
    assert len({missing, file_signature(file), file_signature(file / "below")}) == 3
    assert file_signature(file) == file_signature(file)


def test_it_changes_with_content_whose_time_is_kept(tmp_path: Path) -> None:
    """As by ``cp -p`` over it, in the same length."""
    file = tmp_path / "file"
    file.write_text("a")
    before, status = file_signature(file), file.stat()
    file.write_text("b")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert file_signature(file) != before


def test_it_changes_with_permissions(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = file_signature(file)
    file.chmod(0o600 if file.stat().st_mode & 0o777 != 0o600 else 0o644)
    assert file_signature(file) != before


def test_it_changes_with_the_target_of_a_link(tmp_path: Path) -> None:
    """As of a folder of Kubernetes, of which nothing else changes."""
    link = tmp_path / "file"
    signatures = []
    for name in ("old", "new"):
        (tmp_path / name).write_text("a")
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        signatures.append(file_signature(link))
    assert signatures[0] != signatures[1]
