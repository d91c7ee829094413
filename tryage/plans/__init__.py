"""Plans: sequences of experts to try until a check accepts an answer."""
