"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Some tests serve gRPC in their own process and start programs: gRPC's threads are not to come alive in the forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# Tests run side by side on slow machines, where taking long is no failure; and they leave nothing on disk.
settings.register_profile("side by side", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("side by side")
