"""Pure functions that several parts share."""
