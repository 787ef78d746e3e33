"""What is a layer's closed form?"""
