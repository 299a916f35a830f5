"""Measuring what a model has learned: answer parsing, metrics, benchmarks."""
