"""Experts that say which pixels belong to a region."""
