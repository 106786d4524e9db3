"""The cost of a tools/call: plain Envoy, Envoy's own MCP filters, and this gateway, side by side. See
docs/performance.md.

    python -m bench --help

The parent process starts everything, orders slices of load and computes the figures. The load client and the upstream MCP
server are separate processes, so that their CPU is not included.
"""
