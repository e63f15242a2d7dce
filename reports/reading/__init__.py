"""The store as tidy data: the only reader of MLflow."""
