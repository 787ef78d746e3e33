"""Witnesses of a number: counts, memory, timing, equivariance. Each takes a model and gives plain data."""
