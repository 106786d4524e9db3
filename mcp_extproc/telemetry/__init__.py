"""The log, and what others are told of requests: traces, metrics and the audit."""
