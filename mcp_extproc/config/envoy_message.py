"""Envoy API messages in the operator's file: data that JSON can carry to Envoy without a change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from mcp_extproc.config.config_error import PlacedError

MAX_WHOLE_NUMBER = 2**53
"""The largest whole number that is the same in every JSON parser (RFC 8259, section 6). Envoy reads messages of filters as
``google.protobuf.Struct``, whose numbers are doubles; in protobuf's JSON, 64-bit numbers are text."""


def _numbers_survive(message: Mapping[str, Any]) -> Mapping[str, Any]:
    _check(message, ())
    return message


def _check(value: object, path: tuple[str | int, ...]) -> None:
    """Recursive: what comes from a file is at most `mcp_extproc.config.bounds.DEPTH` deep."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check(item, (*path, key))
    elif isinstance(value, int):
        if abs(value) > MAX_WHOLE_NUMBER:
            raise PlacedError(path, "a whole number beyond 2^53 would change on its way to Envoy: put it in quotes")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PlacedError(path, "Envoy's configuration has no infinite numbers, and no NaN")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            _check(item, (*path, index))


Raw = Mapping[str, Any]
"""An Envoy API message, in the notation of Envoy's documentation."""

RawMessage = Annotated[Mapping[str, Any], AfterValidator(_numbers_survive)]
"""The same, checked."""
