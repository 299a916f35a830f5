"""Learned finders of the ground."""
