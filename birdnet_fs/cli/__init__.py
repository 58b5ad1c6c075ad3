"""The command line `birdnet-fs`: one file per verb; `main` lists them in the order of a typical workflow."""
