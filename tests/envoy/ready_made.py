"""The ready-made configurations in the folder ``envoy``, rendered from the ``*.gateway.yaml`` beside them.

``python -m tests.envoy.ready_made`` writes them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import GatewayConfig, load
from mcp_extproc.envoy.attach.document import to_yaml
from mcp_extproc.envoy.attach.endpoint import attach
from mcp_extproc.envoy.attach.fields import plain
from mcp_extproc.envoy.attach.target import Choice
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.bootstrap import bootstrap

FOLDER = Path(__file__).parents[2] / "envoy"
SOCKETS = Path("/run/mcp-extproc")
ATTACHED = {
    "attached": ("existing.yaml", Choice("https", None, ("api",))),
    "egress": ("egress.existing.yaml", Choice(pass_through_hosts=("https", "http"))),
    "pass-through": ("pass-through.existing.yaml", Choice(pass_through=("notes", "dates"))),
}
"""What these are made of, and the options of ``envoy attach``."""
WORKERS = {"replicas": 2}
"""More than one."""

NAMES = sorted(path.name.removesuffix(".gateway.yaml") for path in FOLDER.glob("*.gateway.yaml"))


def config(name: str) -> GatewayConfig:
    """The gateway's configuration of one case."""
    return load(FOLDER / f"{name}.gateway.yaml", {"MCP_SESSION_SECRET": "s" * 32}).config


def render(name: str) -> str:
    """Envoy's configuration of one case."""
    layout = replace(Layout.in_directory(SOCKETS, WORKERS.get(name, 1)), admin=TcpAddress("127.0.0.1", 9901))
    head = f"# Rendered from {name}.gateway.yaml; README.md says how to run it.\n"
    if name in ATTACHED:
        existing, choice = ATTACHED[name]
        return head + attach((FOLDER / existing).read_text(), existing, config(name), layout, choice).text
    return head + to_yaml(plain(bootstrap(config(name), layout)))


if __name__ == "__main__":
    for case in NAMES:
        (FOLDER / f"{case}.yaml").write_text(render(case))
