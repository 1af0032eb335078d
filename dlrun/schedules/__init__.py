"""Schedules: multipliers of the learning rate over the steps, one part a file."""
