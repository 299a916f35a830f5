"""The error that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad arguments, config or input, found before any work. One line: the field, what is wrong, the fix."""
