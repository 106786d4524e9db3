"""What holds for all tests."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import once_more
from tests.support.dealing import Dealing

# Some tests serve gRPC in their own process and start programs: gRPC's threads are not to come alive in the forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# The package is started hundreds of times; it is compiled once, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests run side by side on slow machines, where taking long is no failure; and they leave nothing on disk.
# CI says the same of the same code; whoever works on it explores.
settings.register_profile(
    "side by side",
    deadline=None,
    database=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("side by side")

# For a failing property, hypothesis would write a patch with further packages, if these are installed. What they warn of when
# they are imported is an error here, and ends the whole run.
sys.modules["hypothesis.extra._patching"] = None  # type: ignore[assignment]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Dealing | None:
    """What ``--dist loadscope`` means here."""
    return Dealing(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    once_more.options(parser)


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--failed-to")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(once_more.Failed(file))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (file := config.getoption("--only-of")) is not None:
        once_more.only(items, file, config)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Logging is of the whole process, and commands that a test runs in it configure it."""
    everybody, ours = logging.getLogger(), logging.getLogger("mcp_extproc")
    all_handlers, handlers, level, propagate = everybody.handlers[:], ours.handlers[:], ours.level, ours.propagate
    yield
    everybody.handlers[:], ours.handlers[:], ours.propagate = all_handlers, handlers, propagate
    ours.setLevel(level)
