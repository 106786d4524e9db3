"""Tests of the gateway with pages in a real browser, which needs Chromium: `make browser`."""
