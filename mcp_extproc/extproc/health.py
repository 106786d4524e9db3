"""Checks by grpc.health.v1 whether a worker accepts requests, for container and service managers.

Source: grpc/doc/health-checking.md.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mcp_extproc.address import Address

_REASONS = {
    grpc.StatusCode.UNAVAILABLE: "nothing responds",
    grpc.StatusCode.DEADLINE_EXCEEDED: "no response in time",
}

_OPTIONS = (
    # A proxy from the environment must not be used for workers.
    ("grpc.enable_http_proxy", 0),
)


def problem(address: Address, timeout: float) -> str | None:
    """Why a worker does not accept requests; ``None`` if it does. Blocks.

    Args:
        address: of its ext_proc service.
        timeout: seconds to wait for the response.
    """
    with grpc.insecure_channel(str(address), options=_OPTIONS) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            code = error.code()
            return _REASONS.get(code, f"there is no health service: {code.name}")
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return f"it is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
