"""What a tools/call costs: plain Envoy, Envoy's own MCP filters, and this gateway, side by side. See docs/performance.md.

    python -m bench --help

The parent process starts everything, orders slices of load and does the sums. The load client and the upstream MCP server
are processes of their own, so that their CPU is in no figure.
"""
