"""Proof that a bundle agrees with torch and float64."""
