"""Model repositories for NVIDIA Triton: configuration, graph with an open batch, initial states, warm-up sample."""
