"""Foundations used by every other package: user errors, strict settings, atomic files, printable text, progress."""
