"""Every tolerance of the tests, with its reason. A test names its row; nothing is loosened elsewhere."""

# name = value  # reason
