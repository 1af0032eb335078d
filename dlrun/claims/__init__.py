"""Experiments as claims: what runs show (`evidence`), what is claimed of it (`language`), whether it holds (`judge`). Imports no torch."""
