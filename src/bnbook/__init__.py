"""The functions that the chapters of the batch normalization textbook import.

A chapter ``book/<part>/<chapter>.ipynb`` imports from ``bnbook.<part>.<chapter>``, and
``tests/<part>/test_<chapter>.py`` tests that module.
"""
