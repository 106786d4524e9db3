"""Passes of the JSON tokenizer over texts, counted in bytes: what a worker can't interrupt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from mcp_extproc.mcp import envelope, jsontext
from mcp_extproc.slices import Slices

_T = TypeVar("_T")

_TOKENIZING = ((jsontext, "split"), (jsontext, "elements_of"), (jsontext, "is_json"), (envelope, "usual"))


class Passes:
    """Counts bytes that the tokenizer has gone through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokenized = 0
        for module, name in _TOKENIZING:
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def in_slices(self, work: Slices[_T]) -> tuple[_T, list[int]]:
        """The result of some work, and the bytes of each of its slices."""
        slices: list[int] = []
        while True:
            before = self.tokenized
            try:
                next(work)
            except StopIteration as done:
                return done.value, [*slices, self.tokenized - before]
            slices.append(self.tokenized - before)

    def _counted(self, tokenize: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(text: Any) -> Any:
            self.tokenized += memoryview(text).nbytes
            return tokenize(text)

        return counted
