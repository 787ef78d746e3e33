"""Which width costs as much as that network?"""
