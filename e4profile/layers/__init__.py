"""Layers of group-equivariant networks, each with its named cost terms."""
