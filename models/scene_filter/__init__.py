"""Learned scene filters."""
