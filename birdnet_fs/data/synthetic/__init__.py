"""The synthetic aviary: labeled recordings that the package generates itself."""
