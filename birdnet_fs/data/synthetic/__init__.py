"""The synthetic aviary: labeled recordings that the package generates (aviary.py) from formulas (song.py)."""
