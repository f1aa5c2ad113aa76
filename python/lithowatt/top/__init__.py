"""Power of all processes of this machine, as ``lithowatt top`` shows it."""
