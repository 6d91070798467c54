"""From a checkpoint to the files that run on a device: stripped, in ONNX or TensorRT, INT8, and provably as good."""
