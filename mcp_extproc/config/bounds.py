"""What a configuration file may hold at most. Real files stay far below; a mistaken or hostile one ends in a sentence."""

from __future__ import annotations

FILE_BYTES = 1 << 20
"""Size of the file, in bytes."""

DEPTH = 50
"""Nesting of mappings and lists. The format itself needs six levels."""

VALUES = 100_000
"""Keys and values, YAML aliases counted as often as they are used (a few short lines can stand for billions)."""
