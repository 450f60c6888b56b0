"""The members: one line each, and every law is tried on it. Start here with a new cell, and watch the laws fail."""

import functools

import jax
import numpy as np

from seqjax import (
    GRU,
    JANET,
    LSTM,
    MGU,
    RHN,
    SLSTM,
    UGRNN,
    Bidirectional,
    ChoGRU,
    ConvGRU,
    ConvLSTM,
    CoRNN,
    Dropout,
    Elman,
    GridLSTM,
    Highway,
    IndRNN,
    LearntCarry,
    MinGRU,
    MultiplicativeLSTM,
    RecurrentDropout,
    Remat,
    Residual,
    Reverse,
    Stack,
    TiedGRU,
    WeightDrop,
    Zoneout,
)
from seqjax.attention import Additive, Attend, Bilinear, LocationAware, Monotonic, MultiHead, Pointer, ScaledDot
from seqjax.testing import Settings

# An orthogonal recurrent kernel without a squashing function keeps what 100 unit normal steps add up to.
SUMS = {"variance": (10.0, 200.0)}


def from_memory(recurrence, params, batch, holes=True):
    """The carry of a decoder that has a memory of four positions to read, some of them empty."""
    rng = np.random.default_rng(0)
    memory = rng.normal(size=(*batch, 4, recurrence.memory_features)).astype(jax.tree.leaves(params)[0].dtype)
    return recurrence.start(params, memory, rng.uniform(size=(*batch, 4)) < (0.7 if holes else 1.0))


READS = {"start": from_memory}
# Empty positions have logits of minus infinity, of which nothing can be summed; tests/test_pointing.py has them.
POINTS = {"start": functools.partial(from_memory, holes=False)}

MEMBERS = {
    "elman": (Elman(5), {}),
    "elman_relu": (Elman(5, activation="relu"), {"variance": (0.1, 20.0)}),  # grows, but with half of its units silent
    "elman_identity": (Elman(5, activation="identity"), SUMS),
    "lstm": (LSTM(5), {}),
    "lstm_recurrent_bias": (LSTM(5, recurrent_bias=True), {}),
    "lstm_peepholes": (LSTM(5, peepholes=True, cell_clip=0.9, projection=4), {}),
    "lstm_coupled": (LSTM(5, coupled=True, activation="identity"), {}),
    "lstm_gate_recurrence": (LSTM(5, gate_recurrence=True, peepholes=True, output_activation="identity"), {}),
    "lstm_layer_norm": (LSTM(5, layer_norm=True), {}),
    "multiplicative_lstm": (MultiplicativeLSTM(5), {}),
    "slstm": (SLSTM(6, heads=2), {}),
    "conv_lstm": (ConvLSTM(3, image=(4, 5)), {"features": (4, 5, 2)}),
    "grid_lstm": (GridLSTM(5, depth=2, priority=True), {}),
    "grid_lstm_tied": (GridLSTM(4, depth=3, tied=True), {}),
    "grid_lstm_places": (GridLSTM(4, dimensions=3, places=5), {"features": (5, 3)}),
    "gru": (GRU(5), {}),
    "gru_recurrent_bias": (GRU(5, recurrent_bias=True), {}),
    "cho_gru": (ChoGRU(5), {}),
    "conv_gru": (ConvGRU(3, image=(4, 5)), {"features": (4, 5, 2)}),
    "mgu": (MGU(5), {}),
    "tied_gru": (TiedGRU(5), {}),
    "ugrnn": (UGRNN(5), {}),
    "janet": (JANET(5, chrono=20), {}),
    "ind_rnn": (IndRNN(5), {}),
    "rhn": (RHN(5, depth=3), {}),
    "co_rnn": (CoRNN(5, dt=0.5), {}),
    "min_gru": (MinGRU(6), {}),
    "attend": (Attend(GRU(5), Additive(4, use_bias=True), 3), READS),
    "attend_feed": (Attend(Elman(5), MultiHead(ScaledDot(temperature=0.5), 2, features=4), 3, features=6, feed=True), READS),
    "attend_before": (Attend(LSTM(5), LocationAware(4, filters=2, width=3), 3, before=True), READS),
    "attend_monotonic": (Attend(Elman(5), Monotonic(Bilinear()), 3), READS),
    "pointer": (Pointer(Attend(Elman(5), ScaledDot(), 5), Bilinear(), 5), POINTS),
    "stack": (Stack(LSTM(5), GRU(6)), {}),
    "stack_dropout": (Stack(Elman(5), GRU(6), dropout=0.3), {}),
    "stack_skip": (Stack(GRU(5), Elman(4), skip=True), {}),
    "bidirectional_sum": (Bidirectional(GRU(5), Elman(5), merge="sum"), {}),
    "bidirectional_product": (Bidirectional(GRU(5), Elman(5), merge="product"), {}),
    "bidirectional": (Bidirectional(LSTM(5), GRU(6)), {}),
    "reverse": (Reverse(GRU(5)), {}),
    "residual": (Residual(GRU(5)), {"features": 5}),
    "highway": (Highway(GRU(5)), {"features": 5}),
    "zoneout": (Zoneout(LSTM(5), (0.5, 0.1)), {}),
    "zoneout_plain": (Zoneout(ChoGRU(5), 0.2), {}),
    "recurrent_dropout": (RecurrentDropout(GRU(5), 0.3), {}),
    "weight_drop": (WeightDrop(GRU(5), 0.3), {}),
    "learnt_carry": (LearntCarry(LSTM(5)), {}),
    "remat": (Remat(LSTM(5)), {}),
    "remat_steps": (Remat(Stack(MinGRU(5), GRU(6)), steps=3), {}),
    "dropout": (Dropout(LSTM(5), 0.4), {}),
    "dropout_locked": (Dropout(GRU(5), locked=True), {}),
}


def member(name):
    """A member and the settings of its laws."""
    recurrence, settings = MEMBERS[name]
    return recurrence, Settings(**settings)
