"""A bundle in Python without this toolkit, and the check that a runtime answers as the golden rows say."""
