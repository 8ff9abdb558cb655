"""A model's card: one HTML page that needs nothing but itself."""
