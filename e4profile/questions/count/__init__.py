"""What does a network cost, layer by layer?"""
