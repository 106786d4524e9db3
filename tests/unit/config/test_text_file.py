"""Text of files, and of what a shell gives a command instead of one."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, load
from mcp_extproc.config.secret_file import read_secret
from mcp_extproc.config.text_file import NOT_REGULAR


def test_a_pipe_to_which_nobody_writes_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret")
    with pytest.raises(ConfigError) as refused:
        read_secret(tmp_path / "secret")
    assert str(refused.value) == f"{tmp_path / 'secret'}: {NOT_REGULAR}"
    with pytest.raises(ConfigError, match="is a directory"):
        read_secret(tmp_path)


def test_a_configuration_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As the shell has it: ``mcp-extproc check <(kubectl get ...)``."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_text, args=("servers: {a: {url: http://127.0.0.1:1/mcp}}",))
    writing.start()
    assert [*load(pipe, {}).config.servers] == ["a"]
    writing.join()
