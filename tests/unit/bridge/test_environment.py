from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.bridge.environment import environment, program, read_env_file
from mcp_extproc.bridge.peer import NotStarted
from mcp_extproc.bridge.spec import StdioServer
from tests.unit.bridge.support import spec


def test_few_variables_are_inherited_and_ours_win(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text("A=file\nB=file\nHOME=/file\n")
    ours = {
        "PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "https_proxy": "http://p", "SSL_CERT_FILE": "/ca",
        "SHELL": "/bin/sh", "LOGNAME": "me",
        "AWS_SECRET_ACCESS_KEY": "no", "MCP_EXTPROC_SESSION_SECRET": "no", "WANTED": "yes", "A": "no",
    }  # fmt: skip
    server = spec("good", env={"B": "env"}, env_file=str(file), inherit_env=("WANTED", "ABSENT"))
    assert environment(server, ours) == {
        "PATH": "/bin", "HOME": "/file", "LC_ALL": "C", "https_proxy": "http://p", "SSL_CERT_FILE": "/ca",
        "SHELL": "/bin/sh", "LOGNAME": "me", "WANTED": "yes", "A": "file", "B": "env",
    }  # fmt: skip


def test_null_takes_a_variable_away(tmp_path: Path) -> None:
    """Wherever it comes from."""
    file = tmp_path / "x.env"
    file.write_text("A=file\nB=file\n")
    ours = {"PATH": "/bin", "LANG": "C", "WANTED": "yes"}
    gone: dict[str, str | None] = {"LANG": None, "A": None, "WANTED": None, "ABSENT": None}
    server = spec("good", env=gone, env_file=str(file), inherit_env=("WANTED",))
    assert environment(server, ours) == {"PATH": "/bin", "B": "file"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "its env_file can't be read: No such file or directory"),
        (b"A=1\nhush hush\n", "its env_file is wrong in line 2: expected NAME=value"),
        (b"A=\xff", "its env_file is not UTF-8"),
        (b"#" * (2 << 20), "its env_file is larger than 1 MiB"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "x.env"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NotStarted) as raised:
        environment(spec("good", env_file=str(file)), {})
    assert str(raised.value) == why


def test_a_pipe_is_no_file_of_variables(tmp_path: Path) -> None:
    """Opening it would block until somebody writes."""
    os.mkfifo(tmp_path / "x.env")
    with pytest.raises(NotStarted, match="its env_file is not a file"):
        environment(spec("good", env_file=str(tmp_path / "x.env")), {})


def test_env_files() -> None:
    text = '# c\n\nexport A = 1\nB=\'a # \\n b\' # c\nC="x \\"y\\" \\n"\nD=a#b c # d\r\nE=\n'
    assert read_env_file(text) == {"A": "1", "B": "a # \\n b", "C": 'x "y" \n', "D": "a#b c", "E": ""}


def test_programs(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    (tmp_path / "text").write_text("#!/bin/sh\n")

    def found(command: str, **options: Any) -> str:
        server: StdioServer = spec("good", **options, command=(command,))
        return program(server, {"PATH": str(tmp_path)})

    assert found("tool") == found("./tool", cwd=str(tmp_path)) == found(str(tool)) == str(tool)
    assert program(spec("good"), dict(os.environ)) == sys.executable
    for command, options, why in (
        ("nonsense", {}, "the command nonsense was not found: install it, or give its full path"),
        ("/no/such", {}, "there is no such program: correct `command`"),
        ("./no", {"cwd": str(tmp_path)}, f"there is no such program in {tmp_path}: correct `command`"),
        (
            str(tmp_path / "text"),
            {},
            "it is no program that may be executed: correct `command`, or make it executable (chmod +x)",
        ),
        ("tool", {"cwd": "/no/such"}, "its working directory (cwd) does not exist"),
        (
            "~/x",
            {},
            f"there is no such program in {Path.cwd()}: correct `command`; ~ stands for no folder here: write ${{HOME}}",
        ),
        (
            "tool",
            {"cwd": "/no/~/x"},
            "its working directory (cwd) does not exist; ~ stands for no folder here: write ${HOME}",
        ),
    ):
        with pytest.raises(NotStarted) as raised:
            found(command, **options)
        assert str(raised.value) == why
