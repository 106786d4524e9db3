"""Figures on a page: a block for each table, so that a run of some sections leaves the tables of others as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.errors import BenchError

BEGIN, END = "<!-- figures: written by python -m bench -->", "<!-- end of figures -->"

_MARK: Final = re.compile(r"<!-- table: (.+?) -->\n\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page that is replaced as a whole."""

    key: str
    """What tells it from all others on the page, on one line."""
    text: str

    def __str__(self) -> str:
        return f"<!-- table: {self.key} -->\n\n{self.text}\n\n"


def cells(line: str) -> list[str]:
    """Of a row of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def place(page: str) -> tuple[str, str, str]:
    """What stands before the figures, the figures, and what stands after them. Raises BenchError if the page has no place for
    them."""
    before, begin, rest = page.partition(BEGIN)
    figures, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"the page has no place for figures: it needs the lines {BEGIN} and {END}")
    return before, figures, after


def blocks(figures: str) -> list[Block]:
    """The blocks of a page's figures. What stands before the first one belongs to none."""
    _, *parts = _MARK.split(figures)
    return [Block(key, text.strip()) for key, text in zip(parts[::2], parts[1::2], strict=True)]


def merged(old: Iterable[Block], new: Iterable[Block], sections: Sequence[str]) -> list[Block]:
    """New blocks in place of old ones with the same key, ordered by section: what stands before a key's first colon."""
    found = {each.key: each for each in old} | {each.key: each for each in new}
    rank = {section: number for number, section in enumerate(sections)}
    return sorted(found.values(), key=lambda each: rank.get(each.key.partition(":")[0], len(rank)))


def put(page: str, found: Iterable[Block]) -> str:
    """The page with these blocks alone as its figures. Raises BenchError if it has no place for them."""
    before, _, after = place(page)
    return f"{before}{BEGIN}\n\n{''.join(map(str, found))}{END}{after}"
