"""Monocular depth models: metres for every pixel of a single picture."""
