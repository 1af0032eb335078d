"""Metrics: what is measured beside the loss, one part a file."""
