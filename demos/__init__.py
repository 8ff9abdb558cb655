"""Demonstrations of what a bundle can do; they import only serve."""
