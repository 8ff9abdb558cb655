"""A static page that recommends in the browser's tab; nothing that is rated leaves it."""
