"""The cascade's statistics: which proxy may label what, for how long, and how that is watched."""
