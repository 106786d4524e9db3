"""A small MCP server for date calculations, on the official SDK: ``python examples/servers/dates.py --port 3002``."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from mcp.server.mcpserver import MCPServer
from serve import serve


def build() -> MCPServer[Any]:
    """The MCP server."""
    instructions = "Dates are written YYYY-MM-DD."
    server: MCPServer[Any] = MCPServer("dates", instructions=instructions, log_level="WARNING")

    @server.tool()
    def today() -> date:
        """Today's date (UTC)."""
        return datetime.now(UTC).date()

    @server.tool()
    def weekday(day: date) -> str:
        """The day of the week of a date."""
        return f"{day:%A}"

    @server.tool()
    def add_days(day: date, days: int) -> date:
        """The date this many days later, or earlier if the number is negative."""
        return day + timedelta(days=days)

    @server.tool()
    def days_between(start: date, end: date) -> int:
        """The number of days between two dates."""
        return (end - start).days

    return server


if __name__ == "__main__":
    serve(build(), default_port=3002)
