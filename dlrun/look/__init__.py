"""What there is to see in data, before any network: one file a view, each with its numbers, its lines for the console and its figure."""
