"""The processes: Envoy and workers, started, watched, replaced and ended."""
