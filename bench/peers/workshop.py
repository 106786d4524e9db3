"""Where peers are built: one folder outside the repository, with everything that a build downloads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError

_LAST = 15
"""Lines of a failed command's output in the error."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release in a Git repository."""

    repository: str
    tag: str
    commit: str
    date: str
    """Of the tag's commit, in ISO 8601."""


def cache_folder() -> Path:
    """In the user's cache (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcp-extproc-bench"


@dataclass(frozen=True, slots=True)
class Workshop:
    """Runs builds. Nothing outside its folder is changed."""

    root: Path
    jobs: int = 2
    """Compilers at a time."""
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Folders with the sources of peers, by name, where they are not cloned."""
    say: Callable[[str], None] = lambda _: None
    """Gets each line that a build prints."""

    def built(self, name: str, version: str) -> Path:
        """What is built of one version: a binary, or a virtual environment."""
        return self.root / "built" / f"{name}-{version}"

    def source(self, name: str, release: Release) -> Path:
        """The sources of a release, cloned or copied. Raises BenchError if they cannot be had, or are others."""
        folder = self.root / "source" / f"{name}-{release.tag}"
        if folder.exists():
            return folder
        unfinished = folder.with_name(folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        if given := self.sources.get(name):
            if not given.is_dir():
                raise BenchError(f"the folder {given} with the sources of {name} does not exist")
            shutil.copytree(given, unfinished, symlinks=True, ignore=shutil.ignore_patterns(".git", "target"))
        else:
            clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", release.tag, release.repository]
            self.run(name, [*clone, unfinished])
            self._check(unfinished, release)
        return unfinished.rename(folder)

    def _check(self, folder: Path, release: Release) -> None:
        git = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        found = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        if found != release.commit:
            raise BenchError(f"{release.tag} of {release.repository} is commit {found} instead of {release.commit}")

    def run(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path | None = None,
        environment: Mapping[str, str | Path] | None = None,
    ) -> None:
        """Runs one command of a build to its end. Raises BenchError with the end of its output if it fails.

        Args:
            name: of the peer, whose log has all output.
            command: with arguments.
            folder: in which it runs.
            environment: added to our own.
        """
        log = self.root / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, **{key: str(value) for key, value in (environment or {}).items()}}
        self.say(" ".join(map(str, command)))
        lines: list[str] = []
        try:
            with (
                log.open("a", buffering=1) as file,
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                ) as process,
            ):
                assert process.stdout is not None
                for line in process.stdout:
                    file.write(line)
                    lines = [*lines, line.rstrip()][-_LAST:]
                    self.say(line.rstrip())
        except OSError as error:
            raise BenchError(f"{command[0]} cannot be run: {error.strerror}") from None
        if process.returncode:
            end = "\n".join(lines)
            raise BenchError(f"{command[0]} failed with status {process.returncode}; the end of {log}:\n{end}")

    def build_go(self, name: str, release: Release, package: str) -> None:
        """Builds one binary of a Go module, with its own caches of modules and packages."""
        target = self.built(name, release.tag)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = self.source(name, release)
        unfinished = target.with_name(target.name + ".unfinished")
        build = ["go", "build", "-p", str(self.jobs), "-trimpath", "-buildvcs=false", "-modcacherw"]
        go: dict[str, str | Path] = {
            "GOMODCACHE": self.root / "go" / "mod",
            "GOCACHE": self.root / "go" / "build",
            "CGO_ENABLED": "0",
        }
        self.run(name, ["go", "mod", "download", "-modcacherw"], folder, go)
        self.run(name, [*build, "-o", unfinished, package], folder, go)
        unfinished.rename(target)

    def build_python(self, name: str, requirement: str) -> None:
        """Installs one distribution of PyPI into a virtual environment."""
        target = self.built(name, requirement.partition("==")[2])
        done = target / "installed"
        if done.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self.run(name, [sys.executable, "-m", "venv", "--clear", target])
        self.run(name, [target / "bin" / "pip", "install", "--disable-pip-version-check", requirement])
        done.touch()


def without(*programs: str) -> str:
    """Which of these programs the machine does not have, in words; empty if it has all."""
    missing = [program for program in programs if shutil.which(program) is None]
    return f"{' and '.join(missing)} needed for the build, not on the PATH" if missing else ""
