"""Audio in: decoding, resampling, the front-end, framing, and input quality."""
