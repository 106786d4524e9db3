"""The same load through other MCP gateways: each built in a cache outside the repository, and measured beside Envoy's own MCP
filters and this gateway. See docs/performance.md, "Other gateways".

    python -m bench.peers --help
"""
