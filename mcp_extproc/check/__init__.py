"""Checks before there is traffic: whether servers respond, and whether clients can use their names."""
