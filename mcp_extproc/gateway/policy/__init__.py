"""What Envoy's filters are told about a request, so that policies can judge it."""
