"""Trains recommenders (torch): data, models, training, evaluation, and the `recsys` command."""
