"""HTTP: one request decides; its phases, its status and its certificate are the series."""
