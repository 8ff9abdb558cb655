"""Bundles of models that others have trained: of their tables, or of a fitted model of their package."""
