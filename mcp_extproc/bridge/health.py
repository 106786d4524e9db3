"""Checks whether a bridge answers, on a plain socket."""

from __future__ import annotations

from mcp_extproc.address import Address, connected

_REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
_ANSWER = b"HTTP/1.1 204 "


def problem(address: Address, timeout: float) -> str | None:
    """Why a bridge does not serve; ``None`` if it does. Blocks.

    Args:
        address: of the bridge.
        timeout: seconds to wait for each part of the response.
    """
    try:
        with connected(address, timeout) as connection:
            connection.sendall(_REQUEST)
            answer = b""
            while len(answer) < len(_ANSWER) and (more := connection.recv(len(_ANSWER) - len(answer))):
                answer += more
    except TimeoutError:
        return "no response in time"
    except OSError:
        return "nothing responds"
    return None if answer == _ANSWER else "it is no bridge"
