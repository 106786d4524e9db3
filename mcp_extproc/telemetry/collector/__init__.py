"""The collector: a process that reads Envoy's records and makes spans, metrics and the audit of them.

Its supervisor imports no more of it than :mod:`.spec`, which says what it is to do, and :mod:`.received`, so that what is off
costs nothing.
"""
