"""Networks: one part a file, found by name (see `dlrun.registry`)."""
