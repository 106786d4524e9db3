"""What released versions sealed, one file each: later releases have to open it."""
