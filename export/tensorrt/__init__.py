"""TensorRT: parser checks, builder, device and engine inspection."""
