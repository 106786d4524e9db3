"""Envoy's configuration, rendered as typed messages (envoy-data-plane) instead of text templates."""
