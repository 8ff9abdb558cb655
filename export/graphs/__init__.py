"""One graph per file. Each is written from arrays with standard operators only: opset 18, IR version 8."""
