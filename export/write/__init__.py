"""Arrays and graphs become a bundle."""
