"""Trained models over HTTP: plain cores, one plain ASGI application, and Ray Serve that hosts it."""
