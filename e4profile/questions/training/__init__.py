"""What does a whole training cost?"""
