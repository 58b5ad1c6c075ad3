"""Send the numbers of a training to TensorBoard and MLflow."""
