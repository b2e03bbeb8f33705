"""Estimation: what a minibatch estimates, and what one example can do."""
