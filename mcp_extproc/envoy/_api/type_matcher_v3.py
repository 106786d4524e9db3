"""envoy.type.matcher.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import xds_core_v3


class HttpRequestHeaderMatchInput(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
    header_name: str = ''


class HttpRequestQueryParamMatchInput(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput"
    query_param: str = ''


class HttpResponseHeaderMatchInput(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.HttpResponseHeaderMatchInput"
    header_name: str = ''


class HttpResponseLocalReplyMatchInput(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput"


class HttpResponseStatusCodeMatchInput(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput"


class ListMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.ListMatcher"
    one_of: ValueMatcher | None = None


class ListStringMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.ListStringMatcher"
    patterns: list[StringMatcher] = []


class MetadataMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.MetadataMatcher"
    filter: str = ''
    path: list[MetadataMatcherPathSegment] = []
    value: ValueMatcher | None = None
    invert: bool = False


class MetadataMatcherPathSegment(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.MetadataMatcher.PathSegment"
    key: str | None = None


class OrMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.OrMatcher"
    value_matchers: list[ValueMatcher] = []


class RegexMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.RegexMatcher"
    regex: str = ''


class StringMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.StringMatcher"
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    safe_regex: RegexMatcher | None = None
    contains: str | None = None
    custom: xds_core_v3.TypedExtensionConfig | None = None
    ignore_case: bool = False


class ValueMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.matcher.v3.ValueMatcher"
    string_match: StringMatcher | None = None
    bool_match: bool | None = None
    present_match: bool | None = None
    list_match: ListMatcher | None = None
    or_match: OrMatcher | None = None
