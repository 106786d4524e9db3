"""A client of an endpoint, as people use it: what ``tools`` and ``call`` are made of."""
