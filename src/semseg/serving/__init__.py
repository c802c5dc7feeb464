"""Serves a model over HTTP, by SageMaker's contract for inference containers. Nothing here knows engines."""
