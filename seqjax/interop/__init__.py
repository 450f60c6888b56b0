"""Weights in and out: what PyTorch, Flax and Keras have learnt runs here, and what is learnt here runs there.

Each converter is a module of two verbs: ``load`` makes ``(recurrence, params)`` of what another framework holds, ``dump``
makes what it holds of those. None of them imports PyTorch or Keras.
"""

from seqjax.interop import flax as flax
from seqjax.interop import keras as keras
from seqjax.interop import torch as torch
