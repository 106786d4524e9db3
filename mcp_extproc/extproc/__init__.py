"""Envoy's external processor: the state machine of an exchange, and its transports."""
