"""Limits that reading data and asking a bundle share: what can be trained on can be asked for."""

MAX_ID_LENGTH = 1024
"""Characters of an id."""
