"""Optimizers under torch's names and arguments, one part a file."""
