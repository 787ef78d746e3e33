"""Topologies that a card names."""
