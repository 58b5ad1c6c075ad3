"""Functional Keras models as flat lists of torch calls: `lower.lower`, with one module of rules per kind of layer."""
