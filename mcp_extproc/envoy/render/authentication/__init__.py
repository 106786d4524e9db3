"""Authentication by Envoy: filters, the documents that tell clients where to log in, and the answers that refuse them."""
