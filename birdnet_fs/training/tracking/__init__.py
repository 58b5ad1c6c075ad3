"""Training metrics in TensorBoard, MLflow and Weights & Biases."""
