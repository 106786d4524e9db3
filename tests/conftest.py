"""What holds for all tests."""

from __future__ import annotations

import os

# Some tests serve gRPC in their own process and start programs: gRPC's threads are not to come alive in the forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
