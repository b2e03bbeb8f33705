"""Optimization: why larger learning rates work with batch normalization."""
