"""Sub-requests to MCP servers, made through Envoy's private listener so that Envoy's clusters, TLS and limits apply."""
