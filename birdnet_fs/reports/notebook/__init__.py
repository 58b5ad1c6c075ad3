"""Training and test of an experiment as one object, for notebooks and for the command line."""
