"""What ``lithowatt setup`` writes, so that rights and services are there after each boot."""
