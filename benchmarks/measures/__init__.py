"""One figure, or one family of figures, each."""
