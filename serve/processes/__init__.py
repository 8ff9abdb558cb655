"""Signals, listening sockets and the connection to Ray, for the commands that run long."""
