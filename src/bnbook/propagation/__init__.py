"""Propagation: how variances travel through deep, binary and ternary networks."""
