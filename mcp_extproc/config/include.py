"""``include``: servers in files of their own."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mcp_extproc.config.bounds import FILE_BYTES
from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.text_file import text_in
from mcp_extproc.config.variables import substitute
from mcp_extproc.config.yaml_text import parse_yaml

MAX_FILES: Final = 1000


class Included:
    """One reading of a file's ``include``, collecting problems.

    Args:
        environ: where ``${VAR}`` is looked up.
        folder: where relative paths start.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.watched: list[Path] = []
        self._environ = environ
        self._folder = folder
        self._files: dict[str, str] = {}
        """Of each server that is not in the main file."""

    def merge(self, data: dict[str, Any]) -> dict[str, Any]:
        """A file's data with all servers, and without ``include``."""
        patterns = substitute(data["include"], self._environ, self.problems, ("include",))
        rest = {key: value for key, value in data.items() if key != "include"}
        own = rest.get("servers", {})
        if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
            self.problems.append(Problem("expected a list of files, such as [servers.d/*.yaml]", "include"))
        if self.problems or not isinstance(own, dict):
            return rest  # what is wrong with `servers` is said where it is read
        servers = dict(own)
        for path in self._named(patterns):
            self._add(path, servers)
        return {**rest, "servers": servers}

    def as_written(self, problem: Problem) -> Problem:
        """A problem of a server, with the name of its file."""
        for name, file in self._files.items():
            start = field(("servers", name))
            if problem.path == start or problem.path.startswith((f"{start}.", f"{start}[")):
                return replace(problem, path=f"{file} {problem.path}")
        return problem

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
                self.problems.append(Problem("there is no such file", f"include[{index}]"))
            found |= dict.fromkeys(map(Path, matched))
        if len(found) > MAX_FILES:
            self.problems.append(Problem(f"expected at most {MAX_FILES} files", "include"))
            return []
        return list(found)

    def _add(self, path: Path, servers: dict[str, Any]) -> None:
        shown = str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else str(path)
        try:
            data = parse_yaml(text_in(path, FILE_BYTES), shown)
        except ConfigError as error:
            self.problems += [replace(problem, path=f"{shown} {problem.path}".rstrip()) for problem in error.problems]
            return
        if data is None:
            return  # perhaps it is still being written
        if not isinstance(data, dict) or data.keys() != {"servers"} or not isinstance(data["servers"], dict):
            self.problems.append(Problem("expected a section servers, and nothing else", shown))
            return
        for name, entry in data["servers"].items():
            if name in servers:
                other = self._files.get(name, "the main file")
                self.problems.append(
                    Problem(f"{other} has a server of this name", f"{shown} {field(('servers', name))}")
                )
                continue
            servers[name], self._files[name] = entry, shown
