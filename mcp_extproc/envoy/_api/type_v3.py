"""envoy.type.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

from mcp_extproc.envoy.message import Message


class CodecClientType(StrEnum):
    HTTP1 = "HTTP1"
    HTTP2 = "HTTP2"
    HTTP3 = "HTTP3"


class StatusCode(StrEnum):
    Empty = "Empty"
    Continue = "Continue"
    OK = "OK"
    Created = "Created"
    Accepted = "Accepted"
    NonAuthoritativeInformation = "NonAuthoritativeInformation"
    NoContent = "NoContent"
    ResetContent = "ResetContent"
    PartialContent = "PartialContent"
    MultiStatus = "MultiStatus"
    AlreadyReported = "AlreadyReported"
    IMUsed = "IMUsed"
    MultipleChoices = "MultipleChoices"
    MovedPermanently = "MovedPermanently"
    Found = "Found"
    SeeOther = "SeeOther"
    NotModified = "NotModified"
    UseProxy = "UseProxy"
    TemporaryRedirect = "TemporaryRedirect"
    PermanentRedirect = "PermanentRedirect"
    BadRequest = "BadRequest"
    Unauthorized = "Unauthorized"
    PaymentRequired = "PaymentRequired"
    Forbidden = "Forbidden"
    NotFound = "NotFound"
    MethodNotAllowed = "MethodNotAllowed"
    NotAcceptable = "NotAcceptable"
    ProxyAuthenticationRequired = "ProxyAuthenticationRequired"
    RequestTimeout = "RequestTimeout"
    Conflict = "Conflict"
    Gone = "Gone"
    LengthRequired = "LengthRequired"
    PreconditionFailed = "PreconditionFailed"
    PayloadTooLarge = "PayloadTooLarge"
    URITooLong = "URITooLong"
    UnsupportedMediaType = "UnsupportedMediaType"
    RangeNotSatisfiable = "RangeNotSatisfiable"
    ExpectationFailed = "ExpectationFailed"
    MisdirectedRequest = "MisdirectedRequest"
    UnprocessableEntity = "UnprocessableEntity"
    Locked = "Locked"
    FailedDependency = "FailedDependency"
    UpgradeRequired = "UpgradeRequired"
    PreconditionRequired = "PreconditionRequired"
    TooManyRequests = "TooManyRequests"
    RequestHeaderFieldsTooLarge = "RequestHeaderFieldsTooLarge"
    InternalServerError = "InternalServerError"
    NotImplemented = "NotImplemented"
    BadGateway = "BadGateway"
    ServiceUnavailable = "ServiceUnavailable"
    GatewayTimeout = "GatewayTimeout"
    HTTPVersionNotSupported = "HTTPVersionNotSupported"
    VariantAlsoNegotiates = "VariantAlsoNegotiates"
    InsufficientStorage = "InsufficientStorage"
    LoopDetected = "LoopDetected"
    NotExtended = "NotExtended"
    NetworkAuthenticationRequired = "NetworkAuthenticationRequired"


class FractionalPercent(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.v3.FractionalPercent"
    numerator: int = 0


class HttpStatus(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.v3.HttpStatus"
    code: StatusCode = StatusCode.Empty


class Int64Range(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.v3.Int64Range"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'start', 'end'})
    start: int = 0
    end: int = 0


class Percent(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.v3.Percent"
    value: float = 0.0


class TokenBucket(Message):
    FULL_NAME: ClassVar[str] = "envoy.type.v3.TokenBucket"
    max_tokens: int = 0
    tokens_per_fill: int | None = None
    fill_interval: timedelta | None = None
