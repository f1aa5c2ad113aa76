"""What every other package here may use and what uses none of them: files, settings, text."""
