"""Reading and decoding of recordings: damaged files get a status and a reason, or raise one AudioError."""
