"""Tasks: what is learned, one part a file."""
