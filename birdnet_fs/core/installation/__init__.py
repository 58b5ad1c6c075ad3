"""State of the machine and the installation: memory, disk, packages, extras, runtimes and accelerators."""
