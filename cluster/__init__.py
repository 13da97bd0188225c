"""Where the work runs and where it lies: sessions, artefacts, settings, metrics, progress."""
