"""What each process of `run` has in its memory: it takes most of it, and most of the time of a start.

Names of packages whose modules may not be there are prefixes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BOTH = """
import sys
BEFORE = set(sys.modules)  # of the interpreter, and of what measures coverage: multiprocessing is patched by that
from pathlib import Path
import mcp_extproc.cli.run, mcp_extproc.cli.serve, mcp_extproc.run.nursery, mcp_extproc.upstreams.probe
from mcp_extproc.config import load
load(Path(sys.argv[1]), {})
"""
"""Before the fork."""

SUPERVISOR = """
import mcp_extproc.run.standalone, mcp_extproc.run.workers, mcp_extproc.run.session_secret
import mcp_extproc.cli.announcement, mcp_extproc.check.causes
"""

WORKER = """
import mcp_extproc.run.worker, mcp_extproc.run.reporter
"""

SHOW = "print(*sys.modules.keys() - BEFORE)"

RENDERS = """
import os
from mcp_extproc.config import FileSource

source = FileSource(Path(sys.argv[1]), os.environ)
gateway = mcp_extproc.run.standalone.StandaloneGateway(source, source.load(), "/nowhere/envoy")
live = gateway._live
live.render_apart()
[config, rendered] = live._last_rendered
assert config is live.served.config
print(*sys.modules.keys() - BEFORE)
assert live._render(config) == rendered
assert "mcp_extproc.envoy.render.bootstrap" in sys.modules
gateway._directory.rmdir()
"""

NOBODYS = {
    "aiohttp.web", "envoy_data_plane", "grpc", "mcp_extproc.config.kubernetes", "mcp_extproc.config.writing",
    "mcp_extproc.config.yaml_reader", "mcp_extproc.envoy._api", "mcp_extproc.envoy.attach", "mcp_extproc.envoy.render",
    "mcp_extproc.envoy.watched_files", "mcp_extproc.status.server", "mcp_extproc.telemetry.collector.main",
    "multiprocessing", "opentelemetry", "re2", "rich", "unittest", "yaml",
}  # fmt: skip
WORKERS = {
    "google.protobuf", "hpack", "mcp_extproc.extproc.exchange", "mcp_extproc.extproc.http2", "mcp_extproc.gateway.dispatch",
    "mcp_extproc.run.worker", "uvloop",
}  # fmt: skip
SUPERVISORS = {
    "mcp_extproc.bridge", "mcp_extproc.check", "mcp_extproc.run.reload", "mcp_extproc.run.standalone",
    "mcp_extproc.run.supervisor", "mcp_extproc.status",
}  # fmt: skip


def loaded(program: str, folder: Path) -> set[str]:
    """The modules, and the packages that they are in, of a process that serves a file in JSON."""
    file = folder / "mcp-servers.json"
    file.write_text('{"mcpServers": {"a": {"url": "http://a.example/mcp"}}}')
    done = subprocess.run([sys.executable, "-c", program, file], check=True, capture_output=True, text=True)
    return {
        ".".join(parts[:length])
        for parts in (name.split(".") for name in done.stdout.split())
        for length in range(1, len(parts) + 1)
    }


@pytest.mark.parametrize(
    ("own", "needed", "unwanted"),
    [
        pytest.param("", set(), NOBODYS | WORKERS | SUPERVISORS, id="before the fork"),
        pytest.param(SUPERVISOR, SUPERVISORS, NOBODYS | WORKERS, id="supervisor"),
        pytest.param(WORKER, WORKERS, NOBODYS | SUPERVISORS, id="worker"),
    ],
)
def test_a_process_has_what_it_needs(own: str, needed: set[str], unwanted: set[str], tmp_path: Path) -> None:
    found = loaded(BOTH + own + SHOW, tmp_path)
    assert needed <= found
    assert found & unwanted == set()


def test_a_start_renders_in_another_process(tmp_path: Path) -> None:
    """And gets what it would have rendered itself."""
    assert loaded(BOTH + SUPERVISOR + RENDERS, tmp_path) & NOBODYS == set()
