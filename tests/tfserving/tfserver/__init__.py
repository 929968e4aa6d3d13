"""A gRPC server with TensorFlow Serving's semantics on the TensorFlow runtime of the Python wheel,
for tests."""
