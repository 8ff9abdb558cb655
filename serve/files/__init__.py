"""The ground floor: files that are whole or not at all, checksums, plain paths."""
