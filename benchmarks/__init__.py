"""What the worker costs beside what else one could do: `make bench`, see README.md here."""
