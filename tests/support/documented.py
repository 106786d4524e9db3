"""What the documentation lists, for tests that hold the code to it."""

from __future__ import annotations

import re
from typing import Final

from tests.support.processes import ROOT

_SECTION = (ROOT / "docs" / "protocol.md").read_text().partition("\n## Metadata\n")[2].partition("\n## ")[0]

METADATA_KEYS: Final = frozenset(
    key for row in re.findall(r"^\| (`[^|]*) \|", _SECTION, re.MULTILINE) for key in re.findall(r"`([^`]+)`", row)
)
"""Keys of the dynamic metadata, nested ones with a dot."""
