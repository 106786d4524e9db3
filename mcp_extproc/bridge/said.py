"""What children write for people, on its way to our log: on one line each, without what a terminal obeys, and not too much."""

from __future__ import annotations

import re
from collections import deque

from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.telemetry.printable import printable

LINE_CHARACTERS = 500
"""Of a line that are kept."""

LOOKED_AT_BYTES = 1 << 14
"""Of a line that are looked at: a secret that begins in what is kept is found whole, if it is no longer."""

KEPT_LINES = 10
"""Last lines, for the report of an exit."""

_BURST = 20.0
_PER_SECOND = 5.0

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")

_ERROR = re.compile(r"\w*(?:error|exception)\b|\b(?:fatal|panic)\b|\bERR[!_]|^\W*[\u00d7\u2716\u2717]", re.IGNORECASE)
"""Runtimes write more after it: a stack, their version."""

_TELLS_NOTHING = re.compile(
    r"^\W*(?:\w+ )?warn|complete log of this run|\(\d+ sub-exceptions?\)|^\W*(?:run|see|try|use)\b.*--help\b",
    re.IGNORECASE,
)
"""Speaks of an error, and is not why: a warning, where there is more to read, what only holds others."""

_CAUSE = re.compile(r"\s+cause(?:d by)?: ", re.IGNORECASE)
"""Begins a line that goes on with the error before it, as uv's."""
_MOST_CAUSES = 3

_REPORT = re.compile(r"(\w+ (?:error|ERR!))(?: (.*))?")
"""A line of a report of which each begins like this, as npm's."""

_DECORATION = " \t│╰─▶"
_TRACEBACK = "Traceback (most recent call last):"

_SENTENCE_WORDS = 4
"""Fewer are no reason in themselves: ``code ENOENT``."""


def plain(text: str) -> str:
    r"""Text without escape sequences (ECMA-48), everything else that is not printable escaped.

    >>> plain("\x1b[31mred\x1b[0m\tand \x1b]0;title\x07more")
    'red\\tand more'
    """
    return printable(_CONTROL_SEQUENCE.sub("", text))


class Reason:
    """The line that most probably says why a program ended: the last one that speaks of an error, else the last one. Of a
    report with the same beginning on each line, the first line and the first sentence: what to do comes last."""

    def __init__(self) -> None:
        self._error = ""
        self._other = ""
        self._report = ""
        """The beginning of each line of the report that is being told."""
        self._has_sentence = False
        """Whether it has said one."""
        self._in_traceback = False
        self._goes_on = False
        """Whether the next line is the rest of the error."""
        self._causes = 0
        """How many were added to the error."""

    def __str__(self) -> str:
        return self._error or self._other

    def hear(self, line: str) -> None:
        """Take the next line."""
        if self._goes_on:
            self._error = f"{self._error} {line.lstrip(_DECORATION)}"
            self._goes_on = False
        elif self._error and (cause := _CAUSE.match(line)) is not None:
            self._error += f": {line[cause.end() :]}" if self._causes < _MOST_CAUSES else ""
            self._causes += 1
        elif not _TELLS_NOTHING.search(line):
            self._hear(line)
        elif not self._other:
            self._other = line

    def _hear(self, line: str) -> None:
        self._other = line
        report = _REPORT.match(line)
        if report is not None:
            self._hear_report(line, report[1], report[2] or "")
            return
        self._report = ""
        if _ERROR.search(line) or (self._in_traceback and not line[0].isspace()):
            self._error, self._goes_on, self._causes = line, line.endswith(":"), 0
            self._in_traceback = False
        elif line == _TRACEBACK:
            self._in_traceback = True

    def _hear_report(self, line: str, start: str, said: str) -> None:
        is_sentence = len(said.split()) >= _SENTENCE_WORDS
        if start != self._report:
            self._error, self._report, self._has_sentence, self._causes = line, start, is_sentence, 0
        elif is_sentence and not self._has_sentence:
            self._error, self._has_sentence = f"{self._error}: {said.lstrip()}", True


class Said:
    """The lines of one child's standard error.

    Args:
        redact: takes the child's secrets out, before a line is cut.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._pending = b""
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        """The last lines."""
        self._reason = Reason()

    @property
    def reason(self) -> str:
        """The line that most probably says why it ended."""
        return str(self._reason)

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that a chunk completes. Of a long one the beginning is one line, and the rest is none."""
        lines = []
        *ended, rest = chunk.replace(b"\r", b"\n").split(b"\n")
        for piece in ended:
            lines += self._end(piece)
        self._pending += rest[: max(0, LOOKED_AT_BYTES - len(self._pending))]
        return lines

    def finish(self) -> list[str]:
        """The line that the end of the stream cut off."""
        return self._end(b"")

    def _end(self, piece: bytes) -> list[str]:
        raw = (self._pending + piece)[:LOOKED_AT_BYTES]
        self._pending = b""
        text = self._redact(plain(raw.decode(errors="replace")), LINE_CHARACTERS).rstrip()
        if not text:
            return []
        self.last.append(text)
        self._reason.hear(text)
        return [text]


class Allowance:
    """How many lines of one server may be logged: a few at once, and some in each second.

    Args:
        now: seconds.
    """

    def __init__(self, now: float) -> None:
        self._left = _BURST
        self._since = now
        self.left_out = 0
        """Lines since the last one that was logged."""

    def takes(self, now: float) -> bool:
        """Whether one more may be logged."""
        self._left = min(_BURST, self._left + (now - self._since) * _PER_SECOND)
        self._since = now
        if self._left < 1:
            self.left_out += 1
            return False
        self._left -= 1
        return True

    def taken_left_out(self) -> int:
        """Lines that were left out since this was asked last."""
        count, self.left_out = self.left_out, 0
        return count
