"""Bounds on a configuration file. Real files stay far below; a broken or hostile one is a clean error."""

from __future__ import annotations

FILE_BYTES = 1 << 20
"""Maximum size of the file, in bytes."""

DEPTH = 50
"""Maximum nesting of mappings and lists. The format itself needs six levels."""

VALUES = 100_000
"""Maximum number of keys and values. YAML aliases count at each use: a few lines of aliases can expand to billions."""
