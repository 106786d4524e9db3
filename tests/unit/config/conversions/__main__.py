"""Write the golden files again."""

from __future__ import annotations

from tests.unit.config.test_writing import FILES, converted, golden

for path in FILES:
    text, variables = converted(path)
    native, env = golden(path)
    native.write_text(text, encoding="utf-8")
    env.write_text(variables, encoding="utf-8")
