"""What Envoy's filters see of a request, so that policies can match on it, and what they will say of it."""
