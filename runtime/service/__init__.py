"""A stream as a systemd service: `python -m runtime.service`."""
