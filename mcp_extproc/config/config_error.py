"""Problems in a configuration, as messages for the person who wrote it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHOWN_KEY = 64
_SHOWN_PROBLEMS = 20
_SHOWN_REASONS = 3
_LONGEST_PATH = 500
"""Characters of a path whose line is looked for."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. Neither member ever holds a value of the file."""

    message: str
    """What was expected, and what to do."""
    path: str = ""
    """Path of the field, as `field` writes it. Empty where the problem concerns the whole file, or several fields."""
    line: int | None = None
    """Of the file, where it is known."""

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}, "
        return f"{where}{self.path}: {self.message}" if self.path else self.message

    def inside(self, section: str) -> Problem:
        """The same, with a path that begins in a section."""
        return replace(self, path=self.path.removeprefix(section).removeprefix("."))


def line_of(path: str, lines: Mapping[str, int]) -> int | None:
    """The line of a field, or else that of the innermost section around it; ``None`` where neither is known.

    Args:
        path: of the field. What comes behind it has no say.
        lines: by path.
    """
    ends = (match.start() for match in re.finditer(r"[.\[: ]|$", path[:_LONGEST_PATH]))
    return next((lines[path[:end]] for end in sorted(ends, reverse=True) if path[:end] in lines), None)


def unknown_server(name: str, known: Iterable[str]) -> str:
    """The message about a name that no server has, with the nearest that one has. The name itself is not in it."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"no server has this name, did you mean {quoted(near[0])}?" if near else "no server has this name"


class PlacedError(ValueError):
    """A validation error of a section that belongs to a field further inside it."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(f"{field(path)}: {message}")
        self.message = message
        self.path = tuple(path)
        """Path of the field, relative to the section."""


class ConfigError(Exception):
    """A configuration that can't be used. ``str()`` is a complete message: the file, then each problem with its path.

    The message is safe to log or to paste into a ticket: it contains keys, but no values (header values, secrets, URLs,
    the contents of variables).
    """

    def __init__(self, source: str, problems: Sequence[Problem | str], files: Sequence[Path] = ()) -> None:
        super().__init__(source, tuple(problems))
        self.source = source
        """The file's name as the user gave it."""
        self.problems = tuple(Problem(item) if isinstance(item, str) else item for item in problems)
        """All problems, in the order of the file's sections."""
        self.files = tuple(files)
        """Other files and folders that the configuration was read from, so that a correction there is noticed."""

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}"
        lines = [f"{self.source}: {len(self.problems)} problems"]
        lines += [f"  {problem}" for problem in self.problems[:_SHOWN_PROBLEMS]]
        if len(self.problems) > _SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - _SHOWN_PROBLEMS} more")
        return "\n".join(lines)


def is_left_out(what: str, problems: Sequence[Problem]) -> str:
    """The sentence for something that is left out, with the first of the reasons."""
    more = len(problems) - _SHOWN_REASONS
    reasons = "; ".join(map(str, problems[:_SHOWN_REASONS])) + (f"; and {more} more" if more > 0 else "")
    return f"{what} is left out: {reasons}"


def quoted(key: str) -> str:
    """A key, safe to print: as it is where that is unambiguous, otherwise quoted, escaped and truncated."""
    if _PLAIN.fullmatch(key):
        return key
    return json.dumps(key if len(key) <= _SHOWN_KEY else key[:_SHOWN_KEY] + "...")


def field(path: Sequence[str | int]) -> str:
    """The path of a field, such as ``servers.github.tools.include[0]`` or ``servers["my server"].url``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]" if text else quoted(part)
    return text
