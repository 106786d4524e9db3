"""stdio servers behind a Streamable HTTP face: children of a process of ours, which Envoy reaches at a Unix socket."""
