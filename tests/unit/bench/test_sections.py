"""Which systems meet in which section."""

from __future__ import annotations

import pytest

from bench.rounds import Scenario
from bench.sections import COMPARED, PLANNED, Wishes, plans


def wishes(**changed: tuple[str, ...]) -> Wishes:
    chosen = {"sections": PLANNED, "systems": COMPARED, "transports": ("http2",)} | changed
    return Wishes(**chosen, connections=(1, 16), content=(0, 65_536), seconds=1.0, rounds=1)


def test_all_sections() -> None:
    found = plans(wishes())
    assert {name: plan.systems for name, plan in found.items()} == {
        "calls": ("plain", "mcp", "router", "router-strict", "gateway", "floor"),
        "logged": ("router-logged", "gateway-logged", "floor-logged"),
        "events": ("plain", "router", "gateway", "events", "stateless", "floor-events", "floor-stateless"),
        "large": ("plain", "router", "floor", "gateway"),
        "read": ("router", "gateway", "untrusted", "resources"),
        "pass-through": ("plain", "mcp", "pass-through"),
        "lists of 3": ("router", "gateway"),
        "lists of 30": ("router", "gateway"),
        "policy": ("router", "router-policy", "gateway", "again", "policy"),
        "authentication": ("gateway", "again", "jwt", "token", "tokens", "methods", "key"),
        "telemetry": ("router", "quiet", "quiet-again", "metrics", "traces-1", "traces", "audit", "telling"),
        "workers": ("gateway", "workers"),
        "run": ("router", "gateway", "run", "run-no-page"),
        "stdio": ("http", "stdio", "shared", "direct"),
    }
    assert found["calls"].scenarios == (Scenario(0, 1), Scenario(0, 16), Scenario(65_536, 1), Scenario(65_536, 16))
    assert found["events"].scenarios == (
        Scenario(0, 1, "event"), Scenario(0, 16, "event"), Scenario(0, 16, "events"),
    )  # fmt: skip
    assert [len(plan.servers) for plan in found.values()] == [3, 3, 3, 3, 3, 3, 3, 30, 3, 3, 3, 3, 3, 1]
    assert found["lists of 30"].tools == 50
    assert found["logged"].scenarios == (Scenario(0, 1), Scenario(0, 16))
    assert found["logged"].references == ("router-logged",)
    assert found["policy"].references == ("router", "gateway")
    assert found["read"].references == ("router", "gateway")
    assert [(each.result, each.connections) for each in found["read"].scenarios] == [(0, 1), (0, 16), (65_536, 16)]
    assert found["pass-through"].references == ("plain", "mcp")
    assert [(each.content, each.connections) for each in found["pass-through"].scenarios] == [
        (0, 1), (0, 16), (65_536, 16), (1_048_576, 16),
    ]  # fmt: skip
    assert found["workers"].references == ("gateway",)
    fine, plain = found["authentication"], found["workers"]
    assert (fine.rounds, fine.seconds) == (2 * plain.rounds, plain.seconds)
    assert (found["policy"].rounds, found["policy"].seconds) == (2 * plain.rounds, plain.seconds)
    assert (found["telemetry"].rounds, found["telemetry"].seconds) == (plain.rounds, 3 * plain.seconds)
    assert [name for name, plan in found.items() if plan.settle] == ["telemetry"]
    assert found["stdio"].references == ("http",)
    assert [(each.result, each.connections) for each in found["stdio"].scenarios] == [
        (0, 1), (0, 16), (65_536, 1), (65_536, 16),
    ]  # fmt: skip


def test_both_transports_meet_in_one_plan() -> None:
    found = plans(wishes(transports=("http2", "grpcio")))
    assert found["calls"].systems == ("plain", "mcp", "router", "router-strict", "gateway", "grpcio", "floor")
    assert found["events"].systems[2:] == (
        "gateway", "events", "stateless", "grpcio", "grpcio-events", "grpcio-stateless", "floor-events", "floor-stateless",
    )  # fmt: skip
    assert found["workers"].systems == ("gateway", "workers", "grpcio", "grpcio-workers")


@pytest.mark.parametrize(
    ("systems", "names"),
    [
        (("plain",), ["calls", "events", "large"]),
        (("router",), ["calls", "logged", "events", "large", "lists of 3", "lists of 30"]),
        (("mcp",), ["calls"]),
    ],
)
def test_sections_without_systems_do_not_run(systems: tuple[str, ...], names: list[str]) -> None:
    assert list(plans(wishes(systems=systems))) == names


def test_only_what_is_asked_for() -> None:
    assert list(plans(wishes(sections=("events",)))) == ["events"]
