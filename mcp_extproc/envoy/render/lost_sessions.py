"""Which answers say that a server lost its session: the call is sent once more, with a new one. All others are meant.

Envoy decides about that by the head of the response. So a filter of the server's cluster looks at the body first, and marks
the head. It sees nothing but 404 and 400, by the specification and by the examples of the TypeScript SDK.
"""

from __future__ import annotations

from typing import Final

from mcp_extproc.contract import LOST_HEADER
from mcp_extproc.envoy._api.config_core_v3 import DataSource
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher
from mcp_extproc.envoy._api.filters_http_lua_v3 import Lua
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import HttpResponseStatusCodeMatchInput
from mcp_extproc.envoy._api.xds_type_matcher_v3 import (
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)
from mcp_extproc.envoy.render import matching
from mcp_extproc.envoy.render.typed import any_of

STATUSES: Final = (404, 400)
"""Of answers that may say it."""

_MAX_BODY = 64 * 1024
"""Bytes that are looked at."""

_LOOK = f"""\
-- A JSON-RPC error that speaks neither of a session nor of initializing is about the request.
local function is_about_the_request(handle)
  local kind = handle:headers():get("content-type")
  if not kind or not kind:lower():find("application/json", 1, true) then return false end
  local body = handle:body(true)
  local text = body:getBytes(0, math.min(body:length(), {_MAX_BODY})):lower()
  if not text:find('"jsonrpc"', 1, true) or not text:find('"error"', 1, true) then return false end
  return not text:find("session", 1, true) and not text:find("initiali", 1, true)
end

function envoy_on_response(handle)
  if not is_about_the_request(handle) then handle:headers():replace("{LOST_HEADER}", "1") end
end
"""


def marking() -> HttpFilter:
    """For the cluster of a server, behind what removes the server's own headers of this name."""
    statuses = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex="|".join(map(str, STATUSES)))
    may_be = matching.has("status", HttpResponseStatusCodeMatchInput(), StringMatcher(safe_regex=statuses))
    looking = matching.skipped_if(
        matching.negation(may_be), "envoy.filters.http.lua", Lua(default_source_code=DataSource(inline_string=_LOOK))
    )
    return HttpFilter(name="mcp_lost_session", typed_config=any_of(looking))


def marked() -> HeaderMatcher:
    """A response that was marked."""
    return HeaderMatcher(name=LOST_HEADER, present_match=True)
