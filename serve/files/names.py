"""Names of the files of a bundle that more than one room knows."""

MANIFEST_NAME = "manifest.json"
CONFORMANCE_NAME = "conformance.json"
TABLES_NAME = "tables.bin"
SIGNATURE_NAME = "model.sig"
"""The one file of a bundle that its manifest does not list."""
RUN_NAME = "run.json"
"""Of a run, which errors tell from a bundle."""
