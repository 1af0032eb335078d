"""Experiments as claims: what runs show (`evidence`), what is claimed of it (`language`), and whether it holds (`judge`). Imports no torch."""
