"""`labelstream versions` and `cascade`: what there is, its canary, and differences."""
