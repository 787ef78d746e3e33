"""The allocator as a witness: peak, saved for backward, training state, and the closed form of each."""

from e4profile.witnesses.memory.closed_form import PredictedSaved, SavedTerms, predict_saved
from e4profile.witnesses.memory.cuda import allocator_peak
from e4profile.witnesses.memory.fused_workspace import FusedSizes, backward_at_most, forward_at_most
from e4profile.witnesses.memory.layer_peak import (
    LayerPeak,
    Moment,
    measure_layer_peak,
    moments,
    no_peak_reason,
    predict_layer_peak,
)
from e4profile.witnesses.memory.live import LiveStorages, PeakMemory, allocator_emulation
from e4profile.witnesses.memory.predict import LargestBatch, NothingFits, StepMemory, largest_batch, predict
from e4profile.witnesses.memory.saved import SavedMemory, SavedStorage, saved_for_backward
from e4profile.witnesses.memory.states import MOMENTS, TrainingState, training_state_bytes, training_state_of

__all__ = [
    "MOMENTS",
    "FusedSizes",
    "LargestBatch",
    "LayerPeak",
    "LiveStorages",
    "Moment",
    "NothingFits",
    "PeakMemory",
    "PredictedSaved",
    "SavedMemory",
    "SavedStorage",
    "SavedTerms",
    "StepMemory",
    "TrainingState",
    "allocator_emulation",
    "allocator_peak",
    "backward_at_most",
    "forward_at_most",
    "largest_batch",
    "measure_layer_peak",
    "moments",
    "no_peak_reason",
    "predict",
    "predict_layer_peak",
    "predict_saved",
    "saved_for_backward",
    "training_state_bytes",
    "training_state_of",
]
