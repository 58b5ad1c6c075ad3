"""Detection of windows without calls on any embedding, and the gate that it is for `analyze`."""
