"""Atomic writes, checksums, and reading files that must be regular ones."""
