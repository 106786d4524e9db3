"""What calls get while parts of a gateway are killed, frozen and replaced, and while somebody attacks it.

Slow, so they have a target of their own.
"""
