"""A bundle in Python without this toolkit, and a check of its conformance cases in any runtime."""
