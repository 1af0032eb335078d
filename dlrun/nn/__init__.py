"""Layers and rules of initialisation that several parts share."""
