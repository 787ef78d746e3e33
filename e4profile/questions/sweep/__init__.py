"""What do the settings of a network cost, side by side?"""
