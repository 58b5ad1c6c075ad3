"""Lower a Functional Keras model to a flat list of torch calls over its own Parameters."""
