"""Does a published table hold?"""
