"""Loaders of the experiments' data."""
