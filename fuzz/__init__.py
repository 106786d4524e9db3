"""Fuzzing: what strangers say must not crash, hang or bloat what they say it to."""
