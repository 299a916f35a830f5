"""Experts that put boxes around the things in a picture."""
