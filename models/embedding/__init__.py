"""Embeddings of short texts."""
