"""The service: verdicts over HTTP and WebSocket, a page, metrics. `python -m runtime.serve`; docs/serve.md."""
