"""Answers from a bundle: sessions on a device, rankings, the `Recommender`."""
