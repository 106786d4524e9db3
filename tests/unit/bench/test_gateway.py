"""The processes of a gateway with a stdio server, told apart."""

from __future__ import annotations

from pathlib import Path

from bench.children import Child
from bench.clock import command_of
from bench.gateway import with_bridge
from bench.slices import SERVER

_LEAF = 'sh -c "echo ready; read end" {name} <&3 &'

# Stands for `serve`: one of its children has the argument "bridge-process", and a child itself. All end with the input.
TREE = f"exec 3<&0; {_LEAF.format(name='other')} sh -c '{_LEAF.format(name='child')} wait' bridge-process & wait"


def test_who_is_who(tmp_path: Path) -> None:
    with Child("serve", ["sh", "-c", TREE], tmp_path, talks=True) as serving:
        assert [serving.read_line() for _ in range(2)] == [b"ready\n"] * 2
        parts = {name: [command_of(pid)[-2] for pid in part.pids()] for name, part in with_bridge(serving).items()}
    assert parts == {"worker": [TREE.encode(), b"other"], "bridge": [b"bridge-process"], SERVER: [b"child"]}
