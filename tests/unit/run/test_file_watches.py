"""What Envoy needs to watch files. Tried in a process of its own, which can open few files: to take all inotify instances of
the user would end other tests' Envoys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_extproc.config import FileSource, load
from mcp_extproc.run import file_watches
from mcp_extproc.run.process import StartError
from mcp_extproc.run.standalone import StandaloneGateway
from tests.support.processes import ROOT, free_port

_PROBE = """
import os, resource
from mcp_extproc.run import file_watches
from mcp_extproc.run.process import StartError
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, free + 3))
for number in 0, 1, 3, 4, 3:
    try:
        print(number, file_watches.require(number))
    except StartError as error:
        print(number, error)
"""


def test_what_there_is_is_tried() -> None:
    """Nothing of it stays taken."""
    done = subprocess.run([sys.executable, "-c", _PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "0 None\n1 None\n3 None\n"
        "4 Envoy could not watch its files: it needs 4 more inotify instances, of which this user can have 3. End programs"
        " of this user that watch files, such as other gateways or editors, or raise the limit: sysctl"
        " fs.inotify.max_user_instances=1024\n"
        "3 None\n"
    )


async def test_a_start_needs_an_inotify_instance_for_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watches, "_available", lambda number: number - 1)
    file = tmp_path / "gateway.yaml"
    file.write_text(f"{{listen: {{port: {free_port()}}}, servers: {{a: {{url: 'http://a.example/mcp'}}}}}}")
    gateway = StandaloneGateway(FileSource(file, {}), load(file, {}), "true", "s" * 32)
    with pytest.raises(StartError, match="needs 6 more inotify instances, of which this user can have 5"):
        await gateway.__aenter__()
    assert not gateway._directory.exists()
