"""A trained model for other programs: ONNX, and all that is needed to run it without cian."""
