"""A record of a request: what Envoy tells the collector of it once it is over.

In the order in which it comes about: :mod:`.worker_note` is what a worker has Envoy put into it; :mod:`.line_format` is what
Envoy writes, where it is ours; :mod:`.line_reader` reads that, and :mod:`.messages` the same from any other Envoy's access log
service. Both make an :class:`~mcp_extproc.telemetry.exchange.Exchange` of it.
"""
