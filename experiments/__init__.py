"""Experiments: one file a task, each a claim that runs. ``python -m experiments list``."""
