"""How do two files of results differ?"""
