"""``python -m mcp_extproc``."""

from mcp_extproc.cli import main

if __name__ == "__main__":
    main()
