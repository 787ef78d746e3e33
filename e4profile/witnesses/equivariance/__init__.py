"""Equivariance as a measured error."""
