"""What every room stands on: errors written for people, files that are whole or absent, progress."""
