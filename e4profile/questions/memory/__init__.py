"""How many bytes does a training step need?"""
