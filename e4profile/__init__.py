"""The exact cost of group-equivariant networks, with witnesses."""
