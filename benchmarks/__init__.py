"""Shrike's proofs: what is claimed about speed and accuracy, measured by commands that anyone can run."""
