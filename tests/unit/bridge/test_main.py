"""The bridge's process, as it starts. All of it: tests/e2e/test_bridge.py."""

from __future__ import annotations

import errno
import os

import pytest

from mcp_extproc.bridge import main


def test_a_system_that_tells_of_no_end_by_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is a thread for each child, as without us."""

    def refused(pid: int) -> int:
        raise OSError(errno.ENOSYS, f"Function not implemented: {pid}")

    assert main._has_pidfd()
    monkeypatch.setattr(os, "pidfd_open", refused)
    assert not main._has_pidfd()
