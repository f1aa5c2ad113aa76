"""Rules that say what is wrong with the data of profiles."""
