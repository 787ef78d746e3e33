"""Which architectures and counting rules give all published figures as printed?"""
