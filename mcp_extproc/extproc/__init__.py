"""Envoy's external processor: the state machine of one exchange, and the transports that carry it."""
