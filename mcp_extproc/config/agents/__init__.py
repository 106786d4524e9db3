"""The MCP servers that agents on this machine have, as a configuration of their own."""
