"""Training: what batch normalization changes in a real run, and what it costs."""
