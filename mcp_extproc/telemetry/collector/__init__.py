"""The collector: a process that reads Envoy's records and makes spans, metrics and the audit of them.

Nothing else imports it, so that what is off costs nothing.
"""
