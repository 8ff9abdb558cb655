"""What every long-running command shares: signals, listening sockets, the connection to Ray."""
