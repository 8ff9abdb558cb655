"""Plain ASGI middleware, one file each; the demo uses some of it too."""
