"""Which networks are there, and what was published about them?"""
