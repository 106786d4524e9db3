"""A small MCP server that keeps notes in memory, on the official SDK: ``python examples/servers/notes.py --port 3001``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import MCPServer
from serve import serve

MAX_NOTES = 1000


@dataclass(frozen=True)
class Note:
    """One note, as tools return it."""

    id: int
    title: str
    text: str


class Notebook:
    """Notes, oldest first, in memory only."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}
        self._created = 0

    def create(self, title: str, text: str) -> Note:
        """Keep a new note.

        Raises:
            ValueError: the notebook is full.
        """
        if len(self._notes) >= MAX_NOTES:
            raise ValueError(f"The notebook holds {MAX_NOTES} notes, which is all it can: delete one first.")
        self._created += 1
        note = Note(self._created, title, text)
        self._notes[note.id] = note
        return note

    def all(self) -> list[Note]:
        """Every note."""
        return list(self._notes.values())

    def search(self, words: str) -> list[Note]:
        """The notes that contain all of these words in title or text, ignoring case."""
        wanted = words.casefold().split()
        return [note for note in self.all() if all(word in f"{note.title}\n{note.text}".casefold() for word in wanted)]

    def delete(self, id: int) -> Note:
        """Remove a note and return it.

        Raises:
            ValueError: there is no such note.
        """
        if id not in self._notes:
            raise ValueError(f"There is no note {id}.")
        return self._notes.pop(id)


def build(notebook: Notebook) -> MCPServer[Any]:
    """The MCP server of a notebook."""
    server: MCPServer[Any] = MCPServer("notes", instructions="Notes that several agents share.", log_level="WARNING")

    @server.tool()
    def create(title: str, text: str) -> Note:
        """Write a new note."""
        return notebook.create(title, text)

    @server.tool(name="list")
    def list_notes() -> list[Note]:
        """List all notes, oldest first."""
        return notebook.all()

    @server.tool()
    def search(words: str) -> list[Note]:
        """Find the notes that contain all of these words."""
        return notebook.search(words)

    @server.tool()
    def delete(id: int) -> Note:
        """Delete a note."""
        return notebook.delete(id)

    return server


if __name__ == "__main__":
    serve(build(Notebook()), default_port=3001)
