"""Many runs as one study: what was asked, its frozen cells, the ledger they stand in, the workers that take them."""
