"""What bounds the time of every layer?"""
