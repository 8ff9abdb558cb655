"""Names of the files of a bundle that more than one room knows."""

MANIFEST_NAME = "manifest.json"
CONFORMANCE_NAME = "conformance.json"
TABLES_NAME = "tables.bin"
RUN_NAME = "run.json"
"""Of a run, which errors tell from a bundle."""
