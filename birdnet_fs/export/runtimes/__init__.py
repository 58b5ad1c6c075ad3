"""Run and time exported files, each runtime in a process and environment of its own."""
