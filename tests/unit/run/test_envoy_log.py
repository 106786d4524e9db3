"""What Envoy's log says of a failure."""

from __future__ import annotations

import re
import signal
import stat
from pathlib import Path

import pytest

from mcp_extproc.run.envoy_log import complaint, ended, rejection

WARNING = "[2026-01-01 00:00:00.000][7][warning][main] [source/server/server.cc:1059] There is no configured limit"
REFUSED = "[2026-01-01 00:00:00.000][7][warning][config] [source/fs.cc:81] Filesystem config update rejected: no key: /x.pem\n"
DUMPED = """[2026-01-01 00:00:00.000][7][warning][config] [source/fs.cc:81] Filesystem config update rejected: \
goo.gle/debugproto
credentials {
  key: "secret"
}
: Proto constraint validation failed (p)"""
AT = "[2026-01-01 00:00:00.000][7][critical]"
ASSERTION = (
    f"{AT}[assert] [source/x.cc:28] assert failure: fd >= 0. Details: Consider increasing user.max_inotify_instances"
)
CRASH = f"""{AT}[backtrace] [./source/server/backtrace.h:173] Caught Aborted, suspect faulting address 0x4c29
{AT}[backtrace] [./source/server/backtrace.h:157] Backtrace (use tools/stack_decode.py to get line numbers):
{AT}[backtrace] [./source/server/backtrace.h:158] Envoy version: 9e55/1.40.0/Clean/RELEASE/BoringSSL
{AT}[backtrace] [./source/server/backtrace.h:167] #0: [0x7f66504a7050]
Http2::ConnectionImpl 0x7362bf99a210, max_headers_kb_: 60
  'authorization', 'Bearer t0ken'"""
"""What Envoy 1.40 writes, in short."""
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


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where logs are kept."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


CAUGHT = "Caught Aborted, suspect faulting address 0x4c29"


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (
            -signal.SIGABRT,
            f"{WARNING}\n{ASSERTION}\n{CRASH}\n",
            "signal SIGABRT: assert failure: fd >= 0. Details: Consider increasing user.max_inotify_instances; "
            + CAUGHT,
        ),
        (-signal.SIGABRT, f"{WARNING}\n{CRASH}\n", f"signal SIGABRT: {CAUGHT}"),
        (-signal.SIGABRT, f"{AT}[main] std::terminate\n  'authorization', 't0ken'", "signal SIGABRT: std::terminate"),
        (134, f"{WARNING}\n{CRASH}\n", f"exit code 134: {CAUGHT}"),
        (-signal.SIGTRAP, WARNING, "signal SIGTRAP: its log does not say why"),
        (
            -signal.SIGKILL,
            f"{WARNING}\n{REFUSED}",
            "signal SIGKILL: its log does not say why. The system ends processes so when memory runs out: see dmesg(1)",
        ),
    ],
)
def test_a_crash(tmp_path: Path, temporary: Path, code: int, log: str, said: str) -> None:
    """Its first words, without frames and dumps; the whole log stays, for its owner alone."""
    file = tmp_path / "envoy.log"
    file.write_text(log)
    [kept] = re.findall(r" \(Envoy's log: (.*)\)$", told := ended(code, file))
    assert told.partition(" (")[0] == said.partition(" (")[0]
    assert told == f"{said} (Envoy's log: {kept})"
    assert Path(kept).read_text() == log
    assert Path(kept).parent == temporary
    assert stat.S_IMODE(Path(kept).stat().st_mode) == 0o600


def test_an_end_of_its_own_accord(tmp_path: Path, temporary: Path) -> None:
    """What it said last is the cause, whole."""
    file = tmp_path / "envoy.log"
    file.write_text(f"{WARNING}\n{CRITICAL}\n")
    assert ended(1, file) == "exit code 1: no such feature"
    assert list(temporary.iterdir()) == []


def test_a_crash_without_a_log(tmp_path: Path) -> None:
    told = ended(-signal.SIGABRT, tmp_path / "nowhere")
    assert told == "signal SIGABRT: its log does not say why (Envoy's log can't be kept: No such file or directory)"


def test_what_is_told_and_kept_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "envoy.log"
    entry = f"{AT}[main] [source/server/server.cc:1] {'ä' * 2000} and why\n"
    file.write_text(entry)
    assert len(complaint(file).encode()) <= 2010
    assert complaint(file).startswith("ä")
    assert complaint(file).endswith("ä and why")
    file.write_text(f"{WARNING}\n" * 10_000 + entry * 100 + CRASH)
    told = ended(-signal.SIGABRT, file)
    assert len(told.encode()) < 3 * 620 + 300
    [kept] = re.findall(r"Envoy's log: (.*)\)$", told)
    assert Path(kept).stat().st_size == 1 << 20
    assert Path(kept).read_bytes().endswith(CRASH.encode())
