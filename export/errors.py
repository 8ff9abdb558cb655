"""What exporting and verifying can raise."""


class ExportError(Exception):
    """Base of everything that exporting raises on purpose. `exit_code` is read by the command alone."""

    exit_code = 1


class GraphError(ExportError, ValueError):
    """A model that can't be written as a graph: NaN weights, tables that don't fit together."""


class ParityError(ExportError, ArithmeticError):
    """A graph that does not agree with torch within its tolerance."""


class AdditionError(ExportError, ValueError):
    """Ratings that no item can be added from: nothing new, nobody known, off the scale, other ids."""

    exit_code = 2
