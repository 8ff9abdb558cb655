"""Scripts that use a bundle without this toolkit, and a check of a runtime against the conformance cases."""
