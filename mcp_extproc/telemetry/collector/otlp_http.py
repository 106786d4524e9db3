"""How exporters ask over HTTP: an endpoint may answer whatever it likes, and take as long.

`requests` reads an answer whole, however large, and its time limit is one between two bytes.
"""

from __future__ import annotations

import io
import time
from typing import Any, Final

import requests

MAX_ANSWER_BYTES: Final = 64 << 10
"""Of an answer. An error's words are in it, and which spans were refused; neither is looked at."""


class Bounded(requests.Session):
    """Reads no more of an answer than :data:`MAX_ANSWER_BYTES`, and no longer than the request may take."""

    def request(self, method: str, url: str, *, timeout: float, **more: Any) -> requests.Response:  # type: ignore[override]
        """As :meth:`requests.Session.request`.

        Raises:
            RequestException: there is no answer, or it leads elsewhere: what the exporter takes for success.
        """
        due = time.monotonic() + timeout
        response = super().request(method, url, timeout=timeout, stream=True, **more)
        if response.is_redirect:
            response.close()
            raise requests.TooManyRedirects("it leads elsewhere", response=response)
        response.raw = _read(response, due)
        return response


def _read(response: requests.Response, due: float) -> io.BytesIO:
    """What came. The connection of an answer that is too large, or too slow, is closed."""
    found = bytearray()
    while time.monotonic() < due and len(found) <= MAX_ANSWER_BYTES:
        part = response.raw.read1(MAX_ANSWER_BYTES)
        if not part:
            return io.BytesIO(found)
        found += part
    response.close()
    return io.BytesIO(found[:MAX_ANSWER_BYTES])
