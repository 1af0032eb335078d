"""Augmentations, one a file: (batch, noise) -> batch, on train batches only, after normalisation, on the batch's device."""
