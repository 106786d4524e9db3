"""How much of an exchange the filter that decides sends to its worker: it says so by the route that a request has until then.

A call is one message of ours each way, whose stream is over with the answer; a response that has to be read has a stream of
its own. Such a stream costs more than the messages that it saves, so where servers answer in event streams anyway, the
response comes along on the first one. The worker is told by a stream's first message. Both are right for any server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher, Route
from mcp_extproc.envoy._api.filters_http_ext_proc_v3 import (
    ExtProcOverrides,
    ExtProcPerRoute,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from mcp_extproc.envoy._api.type_matcher_v3 import RegexMatcher, StringMatcher
from mcp_extproc.envoy.render.typed import any_of
from mcp_extproc.mcp.sessions import IN_EVENTS

EXT_PROC = "envoy.filters.http.ext_proc"
"""Name of the filter that decides."""

_SEND, _SKIP = ProcessingModeHeaderSendMode.SEND, ProcessingModeHeaderSendMode.SKIP
_NONE, _STREAMED = ProcessingModeBodySendMode.NONE, ProcessingModeBodySendMode.STREAMED


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One of them."""

    suffix: str
    """Of the names of its routes."""
    applies_to: HeaderMatcher | None
    """Its requests; ``None`` for all others."""
    mode: ProcessingMode

    def on(self, route: Route) -> Route:
        """Give a route this arrangement. It is the filter's own where the route does not say another."""
        route.name += self.suffix
        if self.applies_to is not None:
            assert route.match is not None
            route.match.headers.append(self.applies_to)
            overrides = ExtProcOverrides(processing_mode=self.mode)
            route.typed_per_filter_config |= {EXT_PROC: any_of(ExtProcPerRoute(overrides=overrides))}
        return route


STREAM: Final = Arrangement(
    "/streams",
    HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET")),
    ProcessingMode(request_header_mode=_SEND, response_header_mode=_SKIP),
)
"""A GET, which the worker may answer with an event stream: Envoy takes one only where no body is sent."""

WITH_RESPONSE: Final = Arrangement(
    "/events",
    HeaderMatcher(
        name="mcp-session-id",
        string_match=StringMatcher(safe_regex=RegexMatcher(regex=IN_EVENTS)),
    ),
    ProcessingMode(
        request_header_mode=_SEND,
        response_header_mode=_SEND,
        request_body_mode=_STREAMED,
        response_body_mode=_STREAMED,
        request_trailer_mode=_SKIP,
        # Where there are any, they are the end of the body: no piece says so then.
        response_trailer_mode=_SEND,
    ),
)
"""The response comes along."""

REQUEST_ALONE: Final = Arrangement(
    "",
    None,
    ProcessingMode(
        request_header_mode=_SEND,
        response_header_mode=_SKIP,
        request_body_mode=_STREAMED,
        response_body_mode=_NONE,
        request_trailer_mode=_SKIP,
        response_trailer_mode=_SKIP,
    ),
)
"""The filter's own."""

ARRANGEMENTS: Final = (STREAM, WITH_RESPONSE, REQUEST_ALONE)
"""In the order of their routes: the last one takes what the others don't."""


def response_alone() -> ProcessingMode:
    """Of a filter that is asked about a response with a status that is an error. A body that is larger than Envoy's buffer
    comes in part: its beginning says enough, or it is not read."""
    return ProcessingMode(
        request_header_mode=_SKIP,
        response_header_mode=_SEND,
        request_body_mode=_NONE,
        response_body_mode=ProcessingModeBodySendMode.BUFFERED_PARTIAL,
        request_trailer_mode=_SKIP,
        response_trailer_mode=_SKIP,
    )
