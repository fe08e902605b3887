"""The errors a user can meet: each names what was given, what is allowed, and the fix; and how they are shown."""


class MultipletError(Exception):
    """The base of every error this package raises for bad input."""


class RecipeError(MultipletError, ValueError):
    """A recipe says something impossible: an unknown field, a value out of range, parts that do not fit."""


class DataError(MultipletError, ValueError):
    """Events that cannot be used: the message names the file, the column and the event."""


class CorruptError(DataError):
    """Bytes that are not what was written: a checksum or a length does not agree."""


class RunError(MultipletError, RuntimeError):
    """A run folder that cannot be used: missing, of another recipe, or without a valid checkpoint."""


class NonFiniteError(MultipletError, ArithmeticError):
    """A loss or a gradient that is not finite; raised before it reaches a parameter."""


class MissingExtraError(MultipletError, ImportError):
    """An optional dependency is not installed; the message says how to get it."""


def printable(text: str) -> str:
    """Text for a terminal, which names in a stranger's file must not steer: all but line ends that prints nothing is
    escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
