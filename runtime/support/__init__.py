"""Shared by all commands: errors, command lines, atomic files, shutdown, measurements."""
