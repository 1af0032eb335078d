"""Datasets, one a file: the function of the file's name takes its options and gives `Splits`."""
