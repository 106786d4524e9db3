"""What Envoy's filters see of a request, so that policies can match on it."""
