"""The status page: what it shows, and how it asks. It stands in the collector's process, which has Envoy's records."""
