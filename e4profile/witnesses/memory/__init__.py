"""The allocator as a witness: peak, saved for backward, training state, and the closed form of each."""
