"""What agents mean by what they write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config.dialects import PLAIN, dialect_of, dialect_of_file, plain_entry

SHOP, HOME = Path("/home/me/work/shop"), Path("/home/me")
ENVIRON = {"TOKEN": "hush", "lower": "x", "HOME": str(HOME)}


def plain(agent: str, entry: Any) -> Any:
    return plain_entry(entry, dialect_of(agent, SHOP, HOME), ENVIRON)


@pytest.mark.parametrize("agent", ["cursor", "vscode"])
def test_what_editors_know_by_themselves(agent: str) -> None:
    entry = {
        "command": "${workspaceFolder}/bin/${workspaceFolderBasename}",
        "args": ["--root=${workspaceFolder}${/}src", "${userHome}${pathSeparator}x", 7],
        "env": {"HERE": "${workspaceFolder}", "${userHome}": "1", "GONE": None},
        "envFile": "${workspaceFolder}/.env",
        "cwd": "${userHome}",
        "dev": {"watch": "${workspaceFolder}/**"},
    }
    assert plain(agent, entry) == {
        "command": f"{SHOP}/bin/shop",
        "args": [f"--root={SHOP}/src", f"{HOME}/x", 7],
        "env": {"HERE": str(SHOP), "${userHome}": "1", "GONE": None},
        "envFile": f"{SHOP}/.env",
        "cwd": str(HOME),
        "dev": {"watch": "${workspaceFolder}/**"},
    }


@pytest.mark.parametrize(
    ("agent", "home"), [("vscode", str(HOME)), ("cursor", "~"), ("claude-code", "~"), ("gemini", "~")]
)
def test_vs_code_knows_the_home_folder_by_its_sign(agent: str, home: str) -> None:
    entry = {"command": "~/bin/x", "args": ["~/a", "a~/b", "~me", "--d=~/c"], "cwd": "~", "envFile": "~/e"}
    assert plain(agent, entry) == {
        "command": f"{home}/bin/x", "args": [f"{home}/a", "a~/b", "~me", "--d=~/c"], "cwd": home, "envFile": "~/e",
    }  # fmt: skip


@pytest.mark.parametrize("home", [None, Path("/home/${TOKEN}")])
def test_without_a_plain_home_folder_its_sign_stays(home: Path | None) -> None:
    assert plain_entry({"command": "~/x"}, dialect_of("vscode", SHOP, home), ENVIRON) == {"command": "~/x"}


@pytest.mark.parametrize(
    "text", ["${env:TOKEN}", "${TOKEN:-x}", "${input:key}", "${config:x}", "${workspaceFolder:other}", "$TOKEN", "${x"]
)
def test_the_rest_is_left_to_the_plain_reader(text: str) -> None:
    assert plain("cursor", {"url": text}) == {"url": text}


def test_what_a_folder_is_called_is_no_variable() -> None:
    """It would be replaced once more, by the reader."""
    odd = dialect_of("cursor", Path("/home/me/${TOKEN}"), HOME)
    entry = {"args": ["${workspaceFolder}", "${workspaceFolderBasename}", "${userHome}"]}
    found = plain_entry(entry, odd, ENVIRON)
    assert found == {"args": ["${workspaceFolder}", "${workspaceFolderBasename}", str(HOME)]}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("$TOKEN", "${TOKEN}"),
        ("Bearer $TOKEN!", "Bearer ${TOKEN}!"),
        ("$lower/$TOKEN", "${lower}/${TOKEN}"),
        ("${TOKEN}", "${TOKEN}"),
        ("${TOKEN:-x}", "${TOKEN:-x}"),
        ("$$TOKEN", "$${TOKEN}"),
        # Not set: the reader leaves the server out.
        ("Bearer $ABSENT", "Bearer ${ABSENT}"),
        # Gemini CLI keeps what is not set. A password with a dollar in it has no variable's name.
        ("p4$sWord9", "p4$sWord9"),
        ("costs $5", "costs $5"),
        ("$", "$"),
    ],
)
def test_gemini_clis_variables(written: str, read: str) -> None:
    assert plain("gemini", {"headers": {"A": written}}) == {"headers": {"A": read}}
    assert plain("claude-code", {"headers": {"A": written}}) == {"headers": {"A": written}}


@pytest.mark.parametrize(
    ("agent", "timeout", "read"),
    [
        ("gemini", 500, "500ms"),
        ("gemini", 30000, "30000ms"),
        ("gemini", 2.5, "2.5ms"),
        ("claude-code", 600000, "600000ms"),
        ("claude-code", 1000, "1000ms"),
        ("claude-code", 999, None),
        ("cursor", 60, 60),
        ("windsurf", 20000, 20000),
        ("gemini", "60", "60"),
        ("gemini", True, True),
    ],
)
def test_the_unit_of_a_timeout_is_the_agents(agent: str, timeout: object, read: object) -> None:
    """Claude Code ignores values below 1000."""
    assert plain(agent, {"timeout": timeout}) == {"timeout": read}


def test_what_is_no_entry_stays_what_it_is() -> None:
    for entry in ("x", None, ["${userHome}"]):
        assert plain("cursor", entry) == entry


@pytest.mark.parametrize(
    ("path", "agent", "workspace"),
    [
        ("shop/.cursor/mcp.json", "cursor", "shop"),
        ("shop/.vscode/mcp.json", "vscode", "shop"),
        (".gemini/settings.json", "gemini", ""),
        ("shop/.mcp.json", "claude-code", "shop"),
        (".claude.json", "claude-code", ""),
    ],
)
def test_whose_a_file_is(tmp_path: Path, path: str, agent: str, workspace: str) -> None:
    found = dialect_of_file(tmp_path / path, {"HOME": str(tmp_path)})
    assert found == dialect_of(agent, tmp_path / workspace, tmp_path)


def test_a_file_of_nobodys(tmp_path: Path) -> None:
    for name in ("mcp-servers.json", "mcp.json", "settings.json", ".cursor/other.json", "gateway.yaml"):
        assert dialect_of_file(tmp_path / name, {}) is PLAIN
    assert "userHome" not in dialect_of_file(tmp_path / ".cursor" / "mcp.json", {}).placeholders
