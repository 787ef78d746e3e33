"""The allocator as a witness: peak, saved for backward, training state, and the closed form of each."""

from e4profile.memory.closed_form import PredictedSaved, SavedTerms, predict_saved
from e4profile.memory.live import LiveStorages, PeakMemory, allocator_emulation
from e4profile.memory.saved import SavedMemory, SavedStorage, saved_for_backward

__all__ = [
    "LiveStorages",
    "PeakMemory",
    "PredictedSaved",
    "SavedMemory",
    "SavedStorage",
    "SavedTerms",
    "allocator_emulation",
    "predict_saved",
    "saved_for_backward",
]
