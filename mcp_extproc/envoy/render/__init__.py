"""A whole Envoy configuration, rendered from ours as typed messages (envoy-data-plane), never as text templates."""
