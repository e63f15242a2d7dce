"""What is written: the only writer of MLflow, and the output folder."""
