"""What the command's exit code says."""

OK, ERROR, USAGE, TOO_MANY_FAILED = 0, 1, 2, 3
