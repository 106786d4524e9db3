"""Kubernetes documents: MCPRoute, what it refers to, and their peers, read into the one configuration.

Nothing in here is imported unless a file has such documents.
"""
