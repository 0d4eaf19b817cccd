"""What irflow can do to a target: one file per action, seeing nothing but the core."""
