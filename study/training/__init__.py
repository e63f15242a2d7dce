"""The engine: fleets trained in lockstep; knows neither MLflow nor Optuna."""
