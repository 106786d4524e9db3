"""What is in the page's files: nothing comes from elsewhere, and nothing moves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcp_extproc import status

PAGE = Path(status.__file__).parent / "page"
FILES = sorted(path for path in PAGE.iterdir() if path.is_file())
NAMESPACE = "http://www.w3.org/2000/svg"
"""A name, which nobody fetches."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_comes_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace(NAMESPACE, "")
    assert not re.search(r"""(?:https?:)?//[\w-]+\.\w|@import|\burl\(\s*["']?(?:https?:|//)""", text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_blinks(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"@keyframes|\banimation|\btransition|<blink|<marquee|<animate|\.animate\(", text)


def test_there_is_such_a_page() -> None:
    assert {"index.html", "main.js", "style.css"} <= {file.name for file in FILES}
