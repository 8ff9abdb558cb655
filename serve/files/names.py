"""Names of the files of a bundle that more than one room knows."""

MANIFEST_NAME = "manifest.json"
CONFORMANCE_NAME = "conformance.json"
TABLES_NAME = "tables.bin"
