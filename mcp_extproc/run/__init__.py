"""The processes: Envoy and workers, started, supervised, replaced and ended."""
