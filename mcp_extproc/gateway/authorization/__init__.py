"""What a caller may see and do. The same rules answer lists and calls."""
