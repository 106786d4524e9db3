"""An MCP gateway as an Envoy external processor (ext_proc).

Envoy carries the traffic; this package reads the JSON-RPC, decides, rewrites names and merges lists.
docs/design.md draws the layers; their one-way dependencies are held by tests/unit/test_layers.py.
"""

__version__ = "0.2.0"
"""The one place that has it: the package, ``serverInfo`` and the User-Agent take it from here (RELEASING.md)."""
