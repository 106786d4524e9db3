"""Dependencies point one way: cli → check → run → extproc, envoy → upstreams → gateway → mcp. Read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import mcp_extproc

PACKAGE = "mcp_extproc"
ROOT = Path(mcp_extproc.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

SHARED = {
    "config",
    "contract",
    "address",
    "body",
    "bounded",
    "file_signature",
    "held",
    "pem",
    "proxies",
    "secret_values",
    "slices",
    "wire",
}
"""Everything may read these."""

# What each layer may import besides itself, SHARED, and the package's own `__init__` (its version).
# A new layer without an entry fails.
BELOW: dict[str, set[str]] = {
    "contract": set(),
    "address": set(),
    "body": set(),
    "bounded": set(),
    "file_signature": set(),
    "held": set(),
    "pem": set(),
    "proxies": set(),
    "secret_values": set(),
    "slices": set(),
    "wire": set(),
    "config": set(),
    "telemetry": {"mcp"},
    "tasks": {"telemetry"},
    "processes": set(),
    "mcp": set(),
    "gateway": {"mcp"},
    "upstreams": {"gateway", "mcp", "telemetry", "tasks"},
    "extproc": {"gateway", "mcp", "telemetry", "tasks"},
    "envoy": {"gateway", "mcp", "telemetry"},
    "client": {"mcp"},
    "status": {"telemetry", "mcp", "tasks"},
    "bridge": {"upstreams", "gateway", "mcp", "telemetry", "tasks", "processes"},
    "run": {"bridge", "envoy", "extproc", "status", "upstreams", "gateway", "telemetry", "tasks", "processes"},
    "check": {"run", "envoy", "upstreams", "gateway", "mcp", "telemetry"},
    "cli": {
        "check",
        "run",
        "bridge",
        "client",
        "extproc",
        "envoy",
        "upstreams",
        "gateway",
        "mcp",
        "status",
        "telemetry",
        "processes",
    },
    "__main__": {"cli", "run"},
    "__init__": set(),
}

NETWORK = {"grpc", "grpc_health", "aiohttp", "yarl", "h2", "asyncio", "uvloop", "socket", "ssl", "http", "threading"}
CLOCKS = {"time", "random", "secrets", "logging"}

# Packages that only some layers may import.
KEPT_TO: dict[str, set[str]] = {
    "grpc": {"extproc", "telemetry"},
    "grpc_health": {"extproc"},
    "google": {"extproc", "telemetry"},
    "opentelemetry": {"telemetry"},
    "uvloop": {"run"},
    "aiohttp": {"bridge", "client", "upstreams", "run", "status", "telemetry"},
    "envoy_data_plane": set(),  # all of Envoy's API: `protos` writes the part that is used into `envoy/_api`
    "betterproto2": set(),
    "click": {"cli"},
    "rich": {"cli"},
    "yaml": {"config", "envoy"},
    "cel": {"config"},
}


def layer_of(module: str) -> str:
    """``gateway`` of ``gateway/merge.py``, ``cli`` of ``cli.py``."""
    return module.removesuffix(".py").partition("/")[0]


def is_generated(module: str) -> bool:
    """Whether a module is written by a program."""
    return "/_pb/" in module or "/_api/" in module


def imports(source: str, module: str) -> Iterator[str]:
    """The absolute dotted names that a module imports, anywhere in it, also under ``TYPE_CHECKING``."""
    package = [PACKAGE, *Path(module).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def problems(source: str, module: str) -> list[str]:
    """What a module imports against the rules."""
    layer = layer_of(module)
    found = []
    for name in imports(source, module):
        top, _, rest = name.partition(".")
        inner = rest.partition(".")[0]
        if top == PACKAGE and inner in BELOW and inner not in {layer, *SHARED, *BELOW[layer]}:
            found.append(f"{module} imports {name}: {layer} is not above {inner}")
        if layer in ("mcp", "gateway") and top in NETWORK | CLOCKS:
            found.append(f"{module} imports {name}: {layer} does no I/O and is given its clock")
        if top in KEPT_TO and layer not in KEPT_TO[top]:
            found.append(f"{module} imports {name}: only {', '.join(sorted(KEPT_TO[top])) or 'tests'} may")
    return found


def imported(module: str) -> set[str]:
    """The modules of the package that a module imports, under ``TYPE_CHECKING`` too."""
    found = set()
    for name in imports((ROOT / module).read_text(), module):
        top, *parts = name.split(".")
        candidates = (Path(*parts[:length]) for length in (len(parts), len(parts) - 1) if top == PACKAGE and length > 0)
        paths = (path.as_posix() for stem in candidates for path in (stem.with_suffix(".py"), stem / "__init__.py"))
        found |= {next((path for path in paths if path in MODULES), module)} - {module}
    return found


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of names that lead back to themselves, each group sorted."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [*graph[start]]
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += graph.get(name, ())
        return seen

    beyond = {name: reached(name) for name in graph}
    groups = {tuple(sorted({other for other in beyond[name] if name in beyond.get(other, ())})) for name in graph}
    return [list(group) for group in sorted(groups) if group]


@pytest.mark.parametrize("module", [m for m in MODULES if not is_generated(m)])
def test_a_module_imports_only_what_is_below_it(module: str) -> None:
    assert problems((ROOT / module).read_text(), module) == []


def test_no_import_circles() -> None:
    """Nor within a folder."""
    assert circles({module: imported(module) for module in MODULES}) == []


def test_what_a_circle_is() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}) == [["b", "c"], ["d"]]


def test_every_layer_is_known() -> None:
    assert {layer_of(module) for module in MODULES} == set(BELOW)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mcp/names.py", "from mcp_extproc.gateway import merge"),
        ("mcp/names.py", "import mcp_extproc.gateway.merge"),
        ("mcp/names.py", "from mcp_extproc import gateway"),
        ("mcp/names.py", "from ..gateway import merge"),
        ("mcp/names.py", "from .. import gateway"),
        ("mcp/names.py", "from mcp_extproc.telemetry import log"),
        ("gateway/merge.py", "import grpc"),
        ("gateway/merge.py", "def f():\n    import asyncio"),
        ("gateway/merge.py", "if TYPE_CHECKING:\n    from aiohttp import web"),
        ("gateway/merge.py", "from asyncio import sleep"),
        ("gateway/merge.py", "from mcp_extproc.upstreams.fan_out import LegRunner"),
        ("upstreams/fan_out.py", "from mcp_extproc.extproc import exchange"),
        ("upstreams/fan_out.py", "import grpc.aio"),
        ("envoy/render/routes.py", "from mcp_extproc.extproc import messages"),
        ("extproc/exchange.py", "from mcp_extproc.envoy.render import routes"),
        ("config/model.py", "from mcp_extproc.mcp import versions"),
        ("run/standalone.py", "from mcp_extproc.cli import main"),
    ],
)
def test_what_the_rules_refuse(module: str, source: str) -> None:
    assert problems(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mcp/names.py", "from mcp_extproc.contract import NAMESPACE"),
        ("mcp/envelope.py", "from mcp_extproc.mcp import errors"),
        ("mcp/envelope.py", "from . import errors"),
        ("gateway/dispatch.py", "from mcp_extproc import __version__\nfrom mcp_extproc.config import GatewayConfig"),
        ("extproc/grpcio_transport.py", "import asyncio\nimport grpc"),
    ],
)
def test_what_the_rules_allow(module: str, source: str) -> None:
    assert problems(source, module) == []
