"""The members: one line each, and every law is tried on it. Start here with a new cell, and watch the laws fail."""

from seqjax import GRU, LSTM, Bidirectional, ChoGRU, Dropout, Elman, MinGRU, Residual, Reverse, Stack
from seqjax.testing import Settings

# An orthogonal recurrent kernel without a squashing function keeps what 100 unit normal steps add up to.
SUMS = {"variance": (10.0, 200.0)}

MEMBERS = {
    "elman": (Elman(5), {}),
    "elman_relu": (Elman(5, activation="relu"), {"variance": (0.1, 20.0)}),  # grows, but with half of its units silent
    "elman_identity": (Elman(5, activation="identity"), SUMS),
    "lstm": (LSTM(5), {}),
    "lstm_recurrent_bias": (LSTM(5, recurrent_bias=True), {}),
    "gru": (GRU(5), {}),
    "gru_recurrent_bias": (GRU(5, recurrent_bias=True), {}),
    "cho_gru": (ChoGRU(5), {}),
    "min_gru": (MinGRU(6), {}),
    "stack": (Stack(LSTM(5), GRU(6)), {}),
    "stack_dropout": (Stack(Elman(5), GRU(6), dropout=0.3), {}),
    "bidirectional": (Bidirectional(LSTM(5), GRU(6)), {}),
    "reverse": (Reverse(GRU(5)), {}),
    "residual": (Residual(GRU(5)), {"features": 5}),
    "dropout": (Dropout(LSTM(5), 0.4), {}),
    "dropout_locked": (Dropout(GRU(5), locked=True), {}),
}


def member(name):
    """A member and the settings of its laws."""
    recurrence, settings = MEMBERS[name]
    return recurrence, Settings(**settings)
