"""Servers of other transports behind a Streamable HTTP face, which Envoy reaches at a Unix socket: stdio servers as children
of a process of ours, and HTTP+SSE servers over connections of it."""
