"""Text formats for other tools, one module per format."""
