"""The format of a bundle on disk: written, read, and checked."""
