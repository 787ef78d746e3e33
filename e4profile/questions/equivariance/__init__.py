"""Is a network equivariant, and where does it stop being so?"""
