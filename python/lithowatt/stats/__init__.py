"""The keys of a call's stats: what each means, and how frameworks that carry them write them."""
