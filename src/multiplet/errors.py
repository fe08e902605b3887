"""The errors a user can meet: each names what was given, what is allowed, and the fix; and how they are shown."""

import errno

STOPPED = 85  # exit code of a run that saved and left on a signal: HTCondor's for a self-checkpointing job


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
    """Text for a terminal, which a stranger's names must not steer: what does not print, but line ends, is escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def refused(error: OSError) -> str:
    """What the disk refused, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        fix = "free space, and give the same command again"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        fix = "get the right to it, or choose another path"
    elif isinstance(error, FileExistsError | NotADirectoryError):
        fix = "a file lies where a folder is needed; choose another path"
    elif isinstance(error, IsADirectoryError):
        fix = "a folder lies where a file is needed; choose another name"
    else:
        fix = "correct the path, or see to the disk"
    said = error.strerror or str(error)
    return f"{error.filename}: {said}: {fix}" if error.filename else f"{said}: {fix}"
