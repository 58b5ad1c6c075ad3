"""One training by several processes: the batch is divided among them, and every step is that of the whole batch."""
