"""Plain ASGI middleware of our servers, one file each: they need neither FastAPI nor a model."""
