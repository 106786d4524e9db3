"""Renders a complete Envoy configuration as typed messages (envoy-data-plane) instead of text templates."""
