"""Errors that a person can mend: one sentence that holds the value and the mend.

The command line prints the sentence and leaves the traceback out; everything else that is raised is a
defect of ours and keeps its traceback under ``--debug``.
"""

from __future__ import annotations


class WordloomError(Exception):
    """The work failed for a reason outside the code: a file, a server, the data (exit code 1)."""


class UnreadableError(WordloomError):
    """A file or a folder that may not be read."""


class UnwritableError(WordloomError):
    """A file or a folder that may not be written."""


class UsageError(WordloomError):
    """A command, setting or argument that cannot be meant: nothing was begun (exit code 2)."""
