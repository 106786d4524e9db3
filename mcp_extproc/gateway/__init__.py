"""The decisions, sans-IO: a request and what is known of its session go in, a :mod:`Decision <.decision>` comes out."""
