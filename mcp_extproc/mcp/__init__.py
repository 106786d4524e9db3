"""The Model Context Protocol, sans-IO: messages, methods, names, versions, errors, session tokens, server-sent events.

Nothing in here blocks, logs or knows a network. Bytes and times come in as arguments; values or errors come out.
"""
