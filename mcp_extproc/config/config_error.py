"""What is wrong with a configuration, as a message for the person who wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHOWN_KEY = 64
_SHOWN_PROBLEMS = 20


class ConfigError(Exception):
    """A configuration that can't be used. ``str()`` is a finished message: the file, then each problem with its place.

    It never holds a value of the file: header values, secrets, URLs and what variables stood for stay out, so that the
    message can go to a log or a ticket. Keys are shown.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(source, tuple(problems))
        self.source = source
        """The file, as the user named it."""
        self.problems = tuple(problems)
        """One sentence per problem, each beginning with the field's path where there is one."""

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}"
        lines = [f"{self.source}: {len(self.problems)} problems"]
        lines += [f"  {problem}" for problem in self.problems[:_SHOWN_PROBLEMS]]
        if len(self.problems) > _SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - _SHOWN_PROBLEMS} more")
        return "\n".join(lines)


def quoted(key: str) -> str:
    """A key as it can be shown anywhere: plain where that is clear, otherwise quoted, escaped and cut."""
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
