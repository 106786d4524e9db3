"""What is decided about each kind of request that clients send."""
