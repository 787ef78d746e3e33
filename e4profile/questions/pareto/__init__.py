"""Which networks are on the front of error against cost?"""
