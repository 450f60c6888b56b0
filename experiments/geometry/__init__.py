"""Planar geometry whose answers are lists of points: hulls, tours, triangulations, and batches of them for ever."""
