"""What becomes of servers' messages on their way to a client."""
