"""INT8: calibration, quantisation, sensitivity and quantisation-aware training."""
