"""Errors of exporting and verifying."""


class ExportError(Exception):
    """Base of the errors of export. `exit_code` is that of the command."""

    exit_code = 1


class GraphError(ExportError, ValueError):
    """A model can't be written as a graph: an unsolvable fold-in, conflicting tables, too many ids."""


class ParityError(ExportError, ArithmeticError):
    """A graph does not agree with torch within its tolerance, or there is no run to compare it with."""


class AdditionError(ExportError, ValueError):
    """No item can be added from these ratings: no new item, no known user, off the scale, other ids."""

    exit_code = 2


class TableError(ExportError, ValueError):
    """No bundle can be made of these tables: shapes that differ, values that are not finite, repeated ids."""

    exit_code = 2
