"""The `Recommender`, and the sessions and rankings below it."""
