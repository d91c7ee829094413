"""Send each prompt to the model that will do best on it, under your own constraints."""
