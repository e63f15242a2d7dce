"""One technique a file, found by discovery."""
