"""The processes of a gateway, told apart."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import native
from bench.children import Child
from bench.clock import command_of, name_of
from bench.errors import BenchError
from bench.gateway import supervised, with_bridge, with_keys, with_pass_through
from bench.slices import SERVER
from mcp_extproc.cli.serve import WORKER

_LEAF = 'sh -c "echo ready; read end" {name} <&3 &'

# Stands for `serve`: one of its children has the argument "bridge-process", and a child itself. All end with the input.
TREE = f"exec 3<&0; {_LEAF.format(name='other')} sh -c '{_LEAF.format(name='child')} wait' bridge-process & wait"


def test_who_is_who(tmp_path: Path) -> None:
    with Child("serve", ["sh", "-c", TREE], tmp_path, talks=True) as serving:
        assert [serving.read_line() for _ in range(2)] == [b"ready\n"] * 2
        parts = {name: [command_of(pid)[-2] for pid in part.pids()] for name, part in with_bridge(serving).items()}
    assert parts == {"worker": [TREE.encode(), b"other"], "bridge": [b"bridge-process"], SERVER: [b"child"]}


def test_workers_and_their_supervisor(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    (tmp_path / WORKER).symlink_to(shell)  # a process has the name of its program's file
    worker = f'{tmp_path / WORKER} -c "echo ready; read end; :" <&3 &'
    tree = f"exec 3<&0; {worker} {worker} wait"
    with Child("serve", ["sh", "-c", tree], tmp_path, talks=True) as serving:
        assert [serving.read_line() for _ in range(2)] == [b"ready\n"] * 2
        parts = supervised(serving, 2)
        assert {name: [name_of(pid) for pid in part.pids()] for name, part in parts.items()} == {
            "worker": [WORKER], "worker 2": [WORKER], "supervisor": ["sh"],
        }  # fmt: skip
        assert parts["worker"].pids() != parts["worker 2"].pids()
        with pytest.raises(BenchError, match="there are 2 workers instead of 3"):
            supervised(serving, 3)["worker"].pids()


def test_api_keys_are_in_every_route_that_has_a_place_for_them() -> None:
    place = {"@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"}
    hosts = [{"typedPerFilterConfig": {"keys": place, "other": {"@type": "other"}}}, {"name": "without"}]
    first, second = json.loads(with_keys(json.dumps({"hosts": [hosts[0], hosts[1]]}), {"bench": "secret"}))["hosts"]
    credentials = [{"key": "secret", "client": "bench"}]
    assert first == {
        "typedPerFilterConfig": {"keys": {**place, "credentials": credentials}, "other": {"@type": "other"}}
    }
    assert second == hosts[1]


def test_what_passes_through_is_inspected_by_a_worker(tmp_path: Path) -> None:
    with ExitStack() as children:
        existing = native.plain(1, 2, ("s1",)).to_json()
        attached, worker = with_pass_through(tmp_path / "own", existing, children)
        worker.check()
        (listener,) = json.loads(attached)["staticResources"]["listeners"]
        (route,) = listener["filterChains"][0]["filters"][0]["typedConfig"]["routeConfig"]["virtualHosts"][0]["routes"]
        assert "mcp/pass_through" in route["typed_per_filter_config"]
        with pytest.raises(BenchError, match=r"envoy attach failed with status \d:\n.*no route|matches exactly"):
            with_pass_through(tmp_path / "other", existing.replace('"/mcp"', '"/other"'), children)
