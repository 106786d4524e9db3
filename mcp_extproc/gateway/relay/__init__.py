"""Servers' messages on their way to a client."""
