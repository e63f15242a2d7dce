"""What the runs say: the only reader of the MLflow store."""
