"""Checks by grpc.health.v1 whether a worker accepts requests, for container and service managers.

They ask every few seconds, and importing gRPC costs many times what the question does. So it is asked on a plain socket.

Sources: grpc/doc/health-checking.md; gRPC over HTTP2 (PROTOCOL-HTTP2.md in grpc/grpc); RFC 9113.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator

from mcp_extproc.address import Address, connected
from mcp_extproc.extproc.http2 import frames

_HEALTH = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_SERVING = 1
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_STREAM = 1
_MAX_BYTES = 65_535
"""Of the whole answer. A real one has about a hundred."""


def problem(address: Address, timeout: float) -> str | None:
    """Why a worker does not accept requests; ``None`` if it does. Blocks.

    Args:
        address: of its ext_proc service, without TLS.
        timeout: seconds to wait for the response.
    """
    deadline = time.monotonic() + timeout
    try:
        with connected(address, timeout) as connection:
            connection.sendall(_request())
            return _verdict(_frames(connection, deadline), connection)
    except TimeoutError:
        return "no response in time"
    except OSError:
        return "nothing responds"
    except _NotGrpcError:
        return "there is no health service: it does not speak HTTP/2 without TLS"


class _NotGrpcError(Exception):
    """The peer speaks something else."""


def _request() -> bytes:
    fields = (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/grpc.health.v1.Health/Check"),
        (b":authority", b"localhost"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    )  # fmt: skip
    # Literals without indexing (RFC 7541, section 6.2.2).
    block = b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields)
    empty_message = bytes(5)  # the service with the empty name: the whole server
    return (
        frames.PREFACE
        + frames.settings({frames.ENABLE_PUSH: 0})
        + frames.frame(frames.HEADERS, frames.END_HEADERS, _STREAM, block)
        + frames.frame(frames.DATA, frames.END_STREAM, _STREAM, empty_message)
    )


def _frames(connection: socket.socket, deadline: float) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of the frames of our stream and of the connection.

    Raises:
        OSError: the connection ends, or the deadline passes (`TimeoutError`).
        _NotGrpcError: these are no frames.
    """
    buffer, seen, is_first = b"", 0, True
    while True:
        while len(buffer) >= frames.HEADER_BYTES:
            high, low, kind, flags, stream = frames.read_header(buffer)
            size = high << 8 | low
            if size > frames.SMALLEST_MAX_FRAME or (is_first and kind != frames.SETTINGS):
                raise _NotGrpcError
            end = frames.HEADER_BYTES + size
            if len(buffer) < end:
                break
            if stream & frames.STREAM_ID in (0, _STREAM):
                yield kind, flags, buffer[frames.HEADER_BYTES : end]
            buffer, is_first = buffer[end:], False
        connection.settimeout(max(deadline - time.monotonic(), 1e-6))
        more = connection.recv(_MAX_BYTES)
        seen += len(more)
        if not more:
            raise ConnectionResetError
        buffer += more
        # The first frame is short, so it begins with a zero. What TLS and HTTP/1.1 send may be shorter than a frame's header.
        if seen > _MAX_BYTES or (is_first and buffer[0]):
            raise _NotGrpcError


def _verdict(found: Iterator[tuple[int, int, bytes]], connection: socket.socket) -> str | None:
    """What the answer says. It ends with the stream, or as soon as the message is there."""
    message, blocks = b"", [b""]
    for kind, flags, payload in found:
        if kind == frames.SETTINGS and not flags & frames.ACK:
            connection.sendall(frames.SETTINGS_ACK)
        elif kind == frames.DATA:
            message += _unpadded(payload, flags)
        elif kind == frames.HEADERS:
            skipped = 5 if flags & frames.WITH_PRIORITY else 0
            blocks.append(_unpadded(payload, flags)[skipped:])
        elif kind == frames.CONTINUATION:
            blocks[-1] += payload
        elif kind == frames.RST_STREAM or (kind == frames.GOAWAY and frames.read_word(payload)[0] < _STREAM):
            return "nothing responds"
        if message and len(message) >= 5 and len(message) >= 5 + frames.read_word(message, 1)[0]:
            return _health(message[5:])
        if kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM and (
            kind == frames.DATA or flags & frames.END_HEADERS
        ):  # fmt: skip
            break
    return f"there is no health service: {_status(blocks)}"


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & frames.PADDED and payload else payload


def _health(message: bytes) -> str | None:
    """``HealthCheckResponse``: its field 1 is the status; absent, it is 0."""
    status = message[1] if message[:1] == b"\x08" and len(message) > 1 else 0
    if status == _SERVING:
        return None
    return f"it is {_HEALTH[status] if status < len(_HEALTH) else status}"


def _status(blocks: Iterable[bytes]) -> str:
    """The status of a call without a message, from its header blocks."""
    from hpack import Decoder  # only for this rare case: importing it takes longer than the check
    from hpack.exceptions import HPACKError

    decoder, fields = Decoder(), dict[str, str]()
    try:
        for block in blocks:
            fields |= {str(name): str(value) for name, value in decoder.decode(block)}
    except (HPACKError, UnicodeDecodeError):
        return "its answer can't be read"
    code = fields.get("grpc-status", "")
    if code.isdecimal() and int(code) < len(_CODES):
        return _CODES[int(code)]
    status = fields.get(":status", "")
    return f"HTTP status {status}" if status.isdecimal() else "its answer has no status"
