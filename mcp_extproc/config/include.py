"""``include``: servers in files of their own."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.config_error import ConfigError, Problem, field, line_of
from mcp_extproc.config.text_file import text_in
from mcp_extproc.config.variables import substitute
from mcp_extproc.config.yaml_text import parse_documents, parse_yaml

MAX_FILES: Final = 1000


class Included:
    """One reading of a file's ``include``, collecting problems.

    Args:
        environ: where ``${VAR}`` is looked up.
        folder: where relative paths start.
        lines: of the main file, read where there is a problem.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path, lines: Callable[[], Mapping[str, int]]) -> None:
        self._lines = lines
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.watched: list[Path] = []
        self._environ = environ
        self._folder = folder
        self._files: dict[str, str] = {}
        """Of each server that is not in the main file."""
        self._texts: dict[str, str] = {}
        """Of the files, for lines."""

    def merge(self, data: dict[str, Any]) -> dict[str, Any]:
        """A file's data with all servers, and without ``include``."""
        patterns = substitute(data["include"], self._environ, self.problems, ("include",))
        rest = {key: value for key, value in data.items() if key != "include"}
        own = rest.get("servers", {})
        if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
            self.problems.append(
                Problem(
                    "expected a list of files, such as [servers.d/*.yaml]", "include", line_of("include", self._lines())
                )
            )
        if self.problems or not isinstance(own, dict):
            return rest  # what is wrong with `servers` is said where it is read
        servers = dict(own)
        for path in self._named(patterns):
            self._add(path, servers)
        return {**rest, "servers": servers}

    def as_written(self, problem: Problem) -> Problem:
        """A problem, with its line; of a server of another file, with the name of that."""
        for name, file in self._files.items():
            start = field(("servers", name))
            if problem.path == start or problem.path.startswith((f"{start}.", f"{start}[")):
                return replace(problem, path=self._in_file(file, problem.path))
        return replace(problem, line=line_of(problem.path, self._lines()))

    def _in_file(self, file: str, path: str) -> str:
        text = self._texts[file]
        # What is on one line, programs have written.
        line = line_of(path, parse_documents(text, file)[0].lines) if "\n" in text.strip() else None
        return f"{file} {path}" if line is None else f"{file} line {line}, {path}"

    def _named(self, patterns: list[str]) -> list[Path]:
        """The files, each once, in the order of the patterns and of their names."""
        found: dict[Path, None] = {}
        for index, pattern in enumerate(patterns):
            place = self._folder / pattern
            matched = sorted(glob.glob(str(place)))  # noqa: PTH207 - Path.glob takes no absolute patterns
            self.watched.append(place.parent if glob.has_magic(place.name) else place)
            if not matched and glob.has_magic(pattern):
                self.warnings.append(f"include[{index}]: there is no such file")
            elif not matched:
                self.problems.append(
                    Problem("there is no such file", f"include[{index}]", line_of(f"include[{index}]", self._lines()))
                )
            found |= dict.fromkeys(map(Path, matched))
        if len(found) > MAX_FILES:
            self.problems.append(
                Problem(f"expected at most {MAX_FILES} files", "include", line_of("include", self._lines()))
            )
            return []
        return list(found)

    def _add(self, path: Path, servers: dict[str, Any]) -> None:
        shown = str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else str(path)
        try:
            self._texts[shown] = text_in(path, FILE_BYTES)
            data = parse_yaml(self._texts[shown], shown)
        except ConfigError as error:
            self.problems += [replace(problem, path=f"{shown} {problem.path}".rstrip()) for problem in error.problems]
            return
        if data is None:
            return  # perhaps it is still being written
        if not isinstance(data, dict) or not isinstance(data.get("servers"), dict):
            self.problems.append(Problem("expected a section servers, and nothing else", shown))
            return
        if others := [key for key in data if key != "servers"]:
            place = self._in_file(shown, field((others[0],)))
            expected = "expected a section servers, and nothing else: this belongs into the main file"
            self.problems.append(Problem(expected, place))
            return
        for name, entry in data["servers"].items():
            if name in servers:
                other = self._files.get(name, "the main file")
                place = self._in_file(shown, field(("servers", name)))
                self.problems.append(Problem(f"{other} has a server of this name", place))
                continue
            servers[name], self._files[name] = entry, shown
