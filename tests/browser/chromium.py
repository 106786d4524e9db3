"""Chromium as it is installed, without a window."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from tests.support.waiting import PATIENCE

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # it refuses to run as root with one, and opens pages of these tests only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


expect.set_options(timeout=PATIENCE * 1000)  # the default is five seconds


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """A running browser, with a profile of its own.

    Args:
        flags: further ones of the command line.
    """
    path = next((found for name in _NAMES if (found := shutil.which(name)) is not None), None)
    assert path is not None, "Chromium is missing: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*_FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()
