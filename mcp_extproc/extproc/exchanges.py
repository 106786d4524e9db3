"""The kinds of ext_proc streams. Envoy has a filter for each, and says by gRPC metadata which one it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from mcp_extproc.contract import DOUBTFUL_KEY, PASS_THROUGH_KEY, REFUSED_KEY, RESPONSE_KEY, VETTING_KEY
from mcp_extproc.extproc.doubtful_exchange import DoubtfulExchange
from mcp_extproc.extproc.exchange import Exchange, Processor
from mcp_extproc.extproc.inspect_exchange import PassThroughExchange
from mcp_extproc.extproc.refused_exchange import RefusedExchange
from mcp_extproc.extproc.response_exchange import ResponseExchange
from mcp_extproc.extproc.vetting_exchange import VettingExchange

AnyExchange = Exchange | ResponseExchange | RefusedExchange | DoubtfulExchange | VettingExchange | PassThroughExchange


def exchange_for(processor: Processor, metadata: Mapping[str, str]) -> AnyExchange:
    """The state of a new stream, of the kind in the filter's configuration.

    Args:
        processor: shared by all exchanges of a worker.
        metadata: of the gRPC call, by lower-case name.
    """
    return opener_for(processor, metadata)()


def opener_for(processor: Processor, metadata: Mapping[str, str]) -> Callable[[], AnyExchange]:
    """What makes the state of new streams with the same metadata."""
    if RESPONSE_KEY in metadata:
        return partial(ResponseExchange, processor)
    if REFUSED_KEY in metadata:
        return partial(RefusedExchange, processor.gateway, processor.counters, processor.clock)
    if DOUBTFUL_KEY in metadata:
        return DoubtfulExchange
    if VETTING_KEY in metadata:
        return partial(VettingExchange, processor, processor.details.of(metadata))
    if PASS_THROUGH_KEY in metadata:
        return partial(PassThroughExchange, processor.gateway.config, processor.details.full, processor.counters)
    return processor.opener(metadata)
