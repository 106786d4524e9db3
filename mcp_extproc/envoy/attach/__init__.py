"""Adds the gateway to an existing Envoy configuration, as plain data."""
