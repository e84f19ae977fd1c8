"""Objectives, the loop, the optimiser."""
