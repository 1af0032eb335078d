"""`dlrun reproduce`: which runs an experiment's claims need, which of them are there, the others trained, and the verdict."""
