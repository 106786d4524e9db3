"""Calls that wait for the user's consent: which ones, how the user is asked, and what an answer is worth."""
