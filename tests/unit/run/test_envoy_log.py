"""What Envoy's log says of a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_extproc.run.envoy_log import complaint, rejection

WARNING = "[2026-01-01 00:00:00.000][7][warning][main] [source/server/server.cc:1059] There is no configured limit"
REFUSED = "[2026-01-01 00:00:00.000][7][warning][config] [source/fs.cc:81] Filesystem config update rejected: no key: /x.pem\n"
DUMPED = """[2026-01-01 00:00:00.000][7][warning][config] [source/fs.cc:81] Filesystem config update rejected: \
goo.gle/debugproto
credentials {
  key: "secret"
}
: Proto constraint validation failed (p)"""
CRITICAL = "[2026-01-01 00:00:00.000][7][critical][main] [source/server/server.cc:1] no such feature"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "it wrote nothing to its log"),
        ("\n \n", "it wrote nothing to its log"),
        (WARNING, "There is no configured limit"),
        (f"{WARNING}\n\n", "There is no configured limit"),
        # Envoy only warns of these, and ends the message with an empty line.
        (f"{REFUSED}\n{WARNING}", "Filesystem config update rejected: no key: /x.pem"),
        (f"{CRITICAL}\n{REFUSED}\n{WARNING}", "no such feature"),
        ("exec: no such file", "exec: no such file"),
        (
            f"{WARNING}\n{DUMPED}\n{WARNING}",
            "Filesystem config update rejected: Proto constraint validation failed (p)",
        ),
    ],
)
def test_the_cause(tmp_path: Path, log: str, said: str) -> None:
    file = tmp_path / "envoy.log"
    file.write_text(log)
    assert complaint(file) == said


def test_no_log(tmp_path: Path) -> None:
    assert complaint(tmp_path / "nowhere") == "it wrote no log"


def test_what_is_refused_is_told_without_what_was_sent(tmp_path: Path) -> None:
    file = tmp_path / "envoy.log"
    file.write_text(f"{CRITICAL}\n{REFUSED}\n{DUMPED}\n{WARNING}\n")
    assert rejection(file) == "Proto constraint validation failed (p)"
    file.write_text(CRITICAL)
    assert rejection(file) == "no such feature"
