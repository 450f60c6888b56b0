"""The lecture notes, executed: every claim that can be computed is a check. One file a theme."""

import importlib

from experiments.lecture_notes.registry import CHECKS as CHECKS
from experiments.lecture_notes.registry import NOTES as NOTES
from experiments.lecture_notes.registry import Check as Check
from experiments.lecture_notes.registry import execute as execute

THEMES = (
    "vanilla",
    "patterns",
    "layers",
    "flags",
    "lstm",
    "gru",
    "gradients",
    "truncation",
    "characters",
    "min_char_rnn",
    "state_spaces",
    "attention",
    "mistakes",
)

for theme in THEMES:  # importing a theme registers its checks; this is the order of the table
    importlib.import_module(f"{__name__}.{theme}")
