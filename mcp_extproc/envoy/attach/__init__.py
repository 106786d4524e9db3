"""The gateway as a part of an Envoy configuration that somebody else wrote, as plain data."""
