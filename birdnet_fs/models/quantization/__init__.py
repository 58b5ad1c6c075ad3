"""Networks that train and compute with 8-bit weights and activations."""
