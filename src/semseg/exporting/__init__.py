"""Exports a trained model in other forms: ONNX, MXNet's symbol, int8."""
