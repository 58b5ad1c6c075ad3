"""Named experiments by subject; config.py lists them."""
