"""Losses: how far outputs are from targets, one part a file."""
