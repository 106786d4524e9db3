"""The comparison that the conformance tests rest on."""
