"""The HTTP service: the app, its processes, and the reloading of bundles."""
