"""The official conformance suite, run against a server directly and through a gateway: every check must agree."""
