"""Shrike's ground floor: what runs on the device. It never imports torch."""

__version__ = "0.1.0"
