"""How tests are dealt out to the cores (``-n``): no core is to sit idle while another has a long module before it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]


class Dealing(LoadScopeScheduling):  # type: ignore[misc]
    """By the module, but for end-to-end tests that start all they need: these are long, and go one by one.

    The modules come first, those with the most tests before all others, so that single tests are what is left at the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return nodeid if module.startswith("tests/e2e/") and not _shares(module) else module


@cache
def _shares(module: str) -> bool:
    """Whether the tests of a module share something that is started once."""
    return 'scope="module"' in (ROOT / module).read_text(encoding="utf-8")
