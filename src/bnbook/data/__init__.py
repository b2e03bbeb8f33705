"""Datasets: loaders for real files, and embedded data that need no file."""
