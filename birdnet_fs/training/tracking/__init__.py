"""Training metrics in TensorBoard and MLflow."""
