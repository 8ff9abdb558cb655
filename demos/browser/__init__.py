"""A static page that recommends inside the browser; ratings never leave it."""
