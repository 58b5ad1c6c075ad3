"""What every room stands on: errors written for people, settings read strictly, files whole or absent, printable names,
progress."""
