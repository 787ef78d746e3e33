"""The allocator as a witness: peak, saved for backward, training state, and the closed form of each."""

from e4profile.memory.live import LiveStorages, PeakMemory, allocator_emulation

__all__ = ["LiveStorages", "PeakMemory", "allocator_emulation"]
